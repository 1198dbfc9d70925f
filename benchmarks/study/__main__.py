"""Study: `python -m benchmarks.study STEP --work FOLDER` (docs/study.md).

    cut --data FOLDER   cut FOLDER/TASK.jsonl into parts (benchmarks/study/parts.py)
    fit                 experts, with their adapters on the way
    candidates          candidates of every proposal, as ordinary runs
    tuning --data ...   settings of every family tried on rows that no cell reads
    presets --data ...  STEER's cut, temperature and gamma tried on the same rows
    defaults --data ... what the product's default could be, of one stream, on the same rows
    weights             the weights under which real texts are likeliest, and contrasts screened
    panels              experts that read panels, and the gate they have to pass
    reading             what else a selector could read
    discriminative      experts fitted further against their own samples, and candidates of them
    measure             every selector with every proposal, measured on the report parts
    tables              docs/study.json, and the tables and pictures of docs/study.md

Every step goes on where it was stopped. `--cell` limits it to some cells, `--method` to some
proposals.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study import discriminative, measure, pages, panels, plan, reading, tuning, weights
from benchmarks.study.lab import Lab
from benchmarks.study.parts import CELLS, Cell, cut
from steer.errors import SteerError
from steer.quiet import quiet_logs

STEPS = (
    "cut",
    "fit",
    "candidates",
    "tuning",
    "presets",
    "defaults",
    "weights",
    "panels",
    "reading",
    "discriminative",
    "measure",
    "tables",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one step; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with quiet_logs():
            _run(options)
    except SteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [cell.name for cell in CELLS]
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--data", type=Path, help="folder of the real texts, TASK.jsonl each")
    parser.add_argument("--cell", choices=names, action="append", help="default: all")
    parser.add_argument("--method", action="append", help="default: every proposal")
    parser.add_argument("--wide", action="store_true", help="panels: on 2,000 rows, not 500")
    return parser


def _run(options: argparse.Namespace) -> None:
    work = options.work
    if options.step == "tables":
        pages.write(work)
        return
    for cell in CELLS:
        if not options.cell or cell.name in options.cell:
            _step(options, work, cell)


def _step(options: argparse.Namespace, work: Path, cell: Cell) -> None:
    match options.step:
        case "cut":
            cut(_data(options.data), work, cell)
        case "fit":
            plan.fit(work, cell)
        case "candidates":
            plan.candidates(Lab(work, cell), options.method or plan.methods(cell.task))
        case step if step in tuning.STEPS:
            tuning.measure(Lab(work, cell), _data(options.data), step)
        case "weights":
            weights.measure(work, cell)
        case "panels":
            panels.measure(work, cell, options.wide)
        case "reading":
            reading.measure(Lab(work, cell))
        case "discriminative":
            discriminative.run(Lab(work, cell))
        case "measure":
            measure.measure(Lab(work, cell))


def _data(given: Path | None) -> Path:
    if given is None:
        raise SteerError(
            "cut, tuning, presets and defaults need --data FOLDER with hypotheses.jsonl, "
            "comments.jsonl, ..."
        )
    return given


if __name__ == "__main__":
    sys.exit(main())

"""Study: `python -m benchmarks.study STEP --work FOLDER` (docs/study.md).

    cut --data FOLDER   cut FOLDER/TASK.jsonl into parts (benchmarks/study/parts.py)
    fit                 an expert and a judge for each task
    tune                every method's settings on the validation part, as many for each
    report              the chosen settings, three seeds, on the part for reporting
    utility             what classifiers learn from synthetic comments
    streams             what each stream says of real texts, token by token
    weights             the weights under which real texts are likeliest
    tables              docs/study.json, and the tables and pictures of docs/study.md

Every step goes on where it was stopped. `--task` limits it to one task.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study import pages, plan, use, weights
from benchmarks.study.lab import Lab
from benchmarks.study.parts import TASKS, cut, part
from benchmarks.study.streams import summary
from steer.errors import SteerError
from steer.files import write_atomic
from steer.quiet import quiet_logs

STEPS = ("cut", "fit", "tune", "report", "utility", "streams", "weights", "tables")


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
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--data", type=Path, help="folder of the real texts, TASK.jsonl each")
    parser.add_argument("--task", choices=TASKS, action="append", help="default: all")
    return parser


def _run(options: argparse.Namespace) -> None:
    work, tasks = options.work, tuple(options.task or TASKS)
    if options.step == "tables":
        pages.write(work)
        return
    if options.step == "utility":
        use.measure(work)
        return
    for task in tasks:
        match options.step:
            case "cut":
                cut(_data(options.data), work, task)
            case "fit":
                plan.fit(work, task)
            case "tune":
                plan.tune(Lab(work, task))
            case "report":
                plan.report(Lab(work, task))
            case "streams":
                _streams(Lab(work, task))
            case "weights":
                weights.measure(work, task)


def _data(given: Path | None) -> Path:
    if given is None:
        raise SteerError("cut needs --data FOLDER with hypotheses.jsonl, comments.jsonl, ...")
    return given


def _streams(lab: Lab) -> None:
    found = {form: summary(lab, form, texts=30) for form in ("prompted", "raw")}
    path = part(lab.work, lab.task, "fit").with_name("streams.json")
    write_atomic(path, json.dumps(found, indent=2).encode())
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())

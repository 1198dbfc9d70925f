"""The benchmark: `python -m benchmarks`, or `make bench`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks import gpu
from benchmarks.command import require_place, run
from benchmarks.lab import prepare
from benchmarks.machine import machine, versions
from benchmarks.suite import CUDA, QUICK, TARGETS, Plan, Suite
from benchmarks.table import Talk, show, write
from steer.errors import SteerError
from steer.models.base import pick_device
from steer.models.packaged import EMBEDDED, default_model

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the results; returns the exit code."""
    console = Console(stderr=True)
    options = _parser().parse_args(arguments)
    return run(lambda: _run(options, console), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares guided decoding with its limits and its peers, pair by pair: "
        "about 6 minutes on two CPU cores.",
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, once: a minute or two")
    parser.add_argument("--out", type=Path, help="results file (benchmarks/results/cpu.json)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    # Random weights instead: tiny (what the tests use), llama-1b, llama-8b.
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace, console: Console) -> None:
    device = pick_device(options.device).type
    out = options.out or RESULTS / ("gpu.json" if device == "cuda" else "cpu.json")
    require_place(out)
    plan = QUICK if options.quick else CUDA if device == "cuda" else Plan()
    report = Talk(console)
    where = machine(device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report("preparing texts, model and adapter")
        lab = prepare(folder, options.model or _model_for(device), device)
        suite = Suite(lab, plan, report)
        suite.run()
        ratios, measurements, notes = suite.ratios, suite.measurements, suite.notes
        del suite  # and its models
        if device == "cuda":
            shapes = gpu.QUICK if options.quick else gpu.Plan()
            more, rows = gpu.measure(shapes, folder, device, report)
            ratios, measurements = ratios | more, measurements + rows
    if strange := [name for name, ratio in ratios.items() if not ratio.plausible]:
        raise SteerError(f"these ratios cannot be: {', '.join(strange)}; measure again")
    show(ratios, measurements, console)
    others = {
        "targets": TARGETS,
        "machine": where,
        "versions": versions(),
        "settings": {"model": options.model or Path(lab.base).name, **asdict(plan)},
        "notes": notes,
        "measurements": measurements,
    }
    write(out, ratios, others)
    console.print(f"Written to {out}", highlight=False, markup=False)


def _model_for(device: str) -> str | None:
    """The default base model; random weights on a GPU machine that has none and no network."""
    return "llama-1b" if device == "cuda" and default_model() != EMBEDDED else None


if __name__ == "__main__":
    sys.exit(main())

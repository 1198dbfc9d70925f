"""The benchmark: `python -m benchmarks`, or `make bench`."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import gpu
from benchmarks.command import require_place, run
from benchmarks.lab import Lab, prepare
from benchmarks.machine import machine, results_file, versions
from benchmarks.ours import Ours
from benchmarks.pairs import Ratio, Side
from benchmarks.plan import CUDA, MINUTES, PROBED, QUICK, QUICK_MINUTES, Budget, choose, probe
from benchmarks.suite import TARGETS, Suite
from benchmarks.table import Talk, read, show, write
from steer.errors import SteerError
from steer.models.base import pick_device
from steer.models.packaged import EMBEDDED, default_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the results; returns the exit code."""
    console = Console(stderr=True)
    options = _parser().parse_args(arguments)
    return run(lambda: _run(options, console), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compares guided decoding with its limits and its peers, pair by pair: "
        "6 to 15 minutes on two CPU cores. A probe chooses how much is measured.",
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, once: 2 to 5 minutes")
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"time for the comparisons ({MINUTES:g}; with --quick {QUICK_MINUTES:g})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="results file (in benchmarks/results, named by what the processor can do)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    # Random weights instead: tiny (what the tests use), llama-1b, llama-8b.
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace, console: Console) -> None:
    device = pick_device(options.device).type
    out = options.out or results_file(device)
    require_place(out)
    read(out)  # what others added to it stays
    minutes = _minutes(options)
    budget = Budget(minutes)
    # The random shapes that follow on a GPU are not in the budget.
    report = Talk(console, None if device == "cuda" else budget)
    where = machine(device)
    with tempfile.TemporaryDirectory() as name:
        report("preparing texts, model and adapter")
        lab = prepare(Path(name), options.model or _model_for(device), device)
        ratios, measurements, more = _compare(lab, options.quick, minutes, budget, report)
        if device == "cuda":
            shapes = gpu.QUICK if options.quick else gpu.Plan()
            found, rows = gpu.measure(shapes, lab.folder, device, report)
            ratios, measurements = ratios | found, measurements + rows
    if strange := [name for name, ratio in ratios.items() if not ratio.plausible]:
        raise SteerError(f"these ratios cannot be: {', '.join(strange)}; measure again")
    show(ratios, measurements, console)
    more["settings"] = {"model": options.model or Path(lab.base).name, **more["settings"]}
    others = {"targets": TARGETS, "machine": where, "versions": versions(), **more}
    write(out, ratios, {**others, "measurements": measurements})
    console.print(f"Written to {out}", highlight=False, markup=False)


def _minutes(options: argparse.Namespace) -> float:
    if options.minutes is None:
        return QUICK_MINUTES if options.quick else MINUTES
    if not options.minutes > 0:
        raise SteerError(f"minutes is {options.minutes:g}; give more than 0 with --minutes")
    return float(options.minutes)


def _compare(
    lab: Lab, quick: bool, minutes: float, budget: Budget, report: Talk
) -> tuple[dict[str, Ratio], list[dict[str, Any]], dict[str, Any]]:
    """Measures all sides, and gives ratios and rows with the settings and notes; the models are
    gone afterwards."""
    ours = Ours(lab)
    report("how fast plain sampling is, to choose how much to measure")
    found = probe(Side("plain engine", ours.plain_engine, PROBED))
    fitting = CUDA if lab.device == "cuda" else choose(found, minutes)
    plan = QUICK if quick else fitting
    report(f"{found.tokens_per_second:.0f} tokens a second; plan {plan}")
    suite = Suite(ours, plan, lambda: budget.left, report)
    suite.run()
    settings = {
        **asdict(plan),
        "minutes": minutes,
        "probe": asdict(found),
        "took_minutes": round((time.monotonic() - report.began) / 60, 1),
    }
    return suite.ratios, suite.measurements, {"settings": settings, "notes": suite.notes}


def _model_for(device: str) -> str | None:
    """Chooses the default base model; random weights on a GPU machine that has none and no
    network."""
    return "llama-1b" if device == "cuda" and default_model() != EMBEDDED else None


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory as texts get longer: `python -m benchmarks.lengths`.

Real texts of each length are whole docstrings of the packages that are installed (read from their
source; nothing is imported), with between three quarters and four thirds of so many tokens. On each
set `steer fit` and `steer generate` run as a user's would, each in a process of its own, so that
its peak memory is its own. How long the records are stands beside how long the real texts are.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import require_place, run
from benchmarks.machine import machine, results_file
from benchmarks.table import Talk, keep
from examples.docstrings import docstrings_of, write_corpus
from steer.cli.generate import SPENT
from steer.errors import SteerError
from steer.models.base import load_tokenizer, pick_device
from steer.models.expert import Expert
from steer.runs.store import Run

PROMPT = "The docstring of a Python function:"
PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "torch", "transformers")
READ = 3000
"""Docstrings that are read at most: their tokens are counted."""


@dataclass(frozen=True)
class Plan:
    """Lengths in tokens; `texts` of each to fit on for `epochs`, and `records` to write."""

    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    texts: int = 32
    epochs: int = 2
    records: int = 16


@dataclass(frozen=True)
class Command:
    """What a command took: seconds, and its peak memory in GiB; and what it printed."""

    seconds: float
    gib: float
    said: str


def docstrings(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """Different docstrings of the packages under `root`, in the order of the files' names."""
    found: dict[str, None] = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if "tests" not in path.parts:
                found |= dict.fromkeys(docstrings_of(path))
    return list(found)


def about(length: int, counted: Sequence[tuple[str, int]], number: int) -> list[str]:
    """The first `number` texts of `counted` (with their tokens) that are about `length` long.
    Raises `SteerError` when they are too few."""
    found = [text for text, tokens in counted if 3 * length <= 4 * tokens <= 16 * length / 3]
    if len(found) < number:
        raise SteerError(
            f"found {len(found)} docstrings of about {length} tokens in what is installed, and "
            f"{number} are wanted; give a lower --texts"
        )
    return found[:number]


def watched(command: Sequence[object]) -> Command:
    """Runs `steer *command` and watches its peak memory. Raises `SteerError` when it fails, but not
    where fewer records were accepted than wanted."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "steer", *map(str, command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode not in (0, SPENT):
        reason = said.strip().splitlines() or ["it said nothing"]
        raise SteerError(f"steer {command[0]} failed: {reason[-1]}")
    return Command(seconds, used.ru_maxrss / 2**20, said)


class Lengths:
    """Measures a point for each length of the plan."""

    def __init__(self, base: str | None, plan: Plan, report: Callable[[str], None]) -> None:
        self.base, self.plan, self.report = base, plan, report
        self.tokenizer = load_tokenizer(base)

    def points(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Measures each length with some of the texts."""
        drawn = random.Random(0).sample(texts, min(READ, len(texts)))
        counted = [(text, self._tokens(text)) for text in drawn]
        return [
            self._point(length, about(length, counted, self.plan.texts))
            for length in self.plan.lengths
        ]

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer(text).input_ids)

    def _point(self, length: int, real: Sequence[str]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_corpus(list(real), folder / "real.jsonl")
            self.report(f"texts of about {length} tokens: fit")
            fitted = self._fit(folder)
            expert = Expert.load(folder / "expert")
            self.report(f"texts of about {length} tokens: generate")
            made = watched(
                [
                    *("generate", folder / "expert", "--real", folder / "real.jsonl"),
                    *("--n", self.plan.records, "--candidates", 1, "--out", folder / "run"),
                ]
            )
            written = Run.open(folder / "run")
        tokens = [self._tokens(text) for text in real]
        records = [self._tokens(record.text) for record in written.records]
        foretold = re.search(r"about ([\d.]+) GiB", fitted.said)
        return {
            "tokens": length,
            "real_quartiles": statistics.quantiles(tokens, n=4),
            "fit_seconds": round(fitted.seconds, 1),
            "fit_tokens_per_second": round(self.plan.epochs * sum(tokens) / fitted.seconds, 1),
            "fit_gib": round(fitted.gib, 2),
            "fit_gib_foretold": float(foretold[1]) if foretold else None,
            "dropped": expert.dropped,
            "held_out": [round(loss.held_out, 3) for loss in expert.losses],
            "generate_seconds": round(made.seconds, 1),
            "generate_gib": round(made.gib, 2),
            "records": len(records),
            "rejected": dict(Counter(reject.reason for reject in written.rejects)),
            "record_quartiles": statistics.quantiles(records, n=4) if len(records) > 1 else None,
        }

    def _fit(self, folder: Path) -> Command:
        longest = max(512, 2 * max(self.plan.lengths))
        command: list[object] = ["fit", folder / "real.jsonl", "--out", folder / "expert"]
        command += ["--prompt", PROMPT, "--epochs", self.plan.epochs, "--max-tokens", longest]
        return watched(command + (["--base", self.base] if self.base else []))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the lengths and writes them; returns the exit code."""
    console = Console()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lengths", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--lengths", type=int, nargs="+", default=list(Plan.lengths))
    for name in ("texts", "epochs", "records"):
        parser.add_argument(
            f"--{name}", type=int, default=getattr(Plan, name), help=f"({getattr(Plan, name)})"
        )
    parser.add_argument("--base", help="base model (the default)")
    parser.add_argument("--out", type=Path, help="results file")
    options = parser.parse_args(arguments)
    plan = Plan(tuple(options.lengths), options.texts, options.epochs, options.records)

    def work() -> None:
        device = pick_device("auto").type
        out = options.out or results_file(device, "lengths")
        require_place(out)
        root = Path(sysconfig.get_path("purelib"))
        found = Lengths(options.base, plan, Talk(console)).points(docstrings(root))
        keep(out, {"points": found}, machine(device), plan, console)
        console.print(json.dumps(found, indent=1), highlight=False, markup=False)

    return run(work, console)


if __name__ == "__main__":
    sys.exit(main())

"""Records by the million: time and peak memory of all that reads a run: `python -m
benchmarks.records`.

Writes benchmarks/results/records.json. The records are made by an engine that writes nine words at
once, so the time is steer's own. Each step is a process of its own.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.machine import machine, versions
from benchmarks.scaling import EXPERT, Writer, real_texts
from steer.cli.main import main as steer
from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.runs.generation import generate
from steer.runs.panels import Panels
from steer.runs.store import Run

RESULTS = Path(__file__).parent / "results"
SIZES, MORE, ROUNDS = (10_000, 100_000, 1_000_000), 1_000, 5
EXPORTS = ("export.jsonl", "export.csv", "export.parquet", "export")
Point = dict[str, Any]


def make(folder: Path, records: int) -> None:
    """Makes a run of so many records, or goes on with the one that is there."""
    generate(RunConfig(n=records, round_size=256), real_texts(), EXPERT, Writer(), folder / "run")


def read(folder: Path, records: int) -> None:
    """Opens the run whole, as an evaluation does."""
    assert len(Run.open(folder / "run").records) == records


def show(folder: Path, records: int) -> None:
    """Shows the run."""
    _steer("show", str(folder / "run"))


def export(folder: Path, records: int, name: str) -> None:
    """Exports the run to the file or folder called `name`."""
    _steer("export", str(folder / "run"), str(folder / name))


def _steer(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        assert steer(list(arguments)) == 0


def measure(sizes: Sequence[int], folder: Path, report: Callable[[str], None]) -> list[Point]:
    """Measures each step at each size: seconds of processor time, and MiB at the most, with the
    libraries' own. Other work on the machine changes neither much."""
    points = []
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        steps: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
            ("make", make, (place, size)),
            ("open", read, (place, size)),
            ("show", show, (place, size)),
            *((name, export, (place, size, name)) for name in EXPORTS),
            (f"continue with {MORE} more", make, (place, size + MORE)),
        ]
        for name, step, arguments in steps:
            seconds, mebibytes = _alone(step, arguments)
            report(f"{size} records: {name}: {seconds} s, {mebibytes} MiB")
            points.append(
                {"records": size, "step": name, "seconds": seconds, "mebibytes": mebibytes}
            )
    return points


class Random:
    """An embedder whose unit rows are drawn at random, 384 numbers each as those of MiniLM."""

    name = "random"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.random.default_rng(0).standard_normal((len(texts), 384), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def select(sizes: Sequence[int], report: Callable[[str], None]) -> list[Point]:
    """Measures the panels of a round of 256 that are chosen by embeddings, at each size of the
    pool: milliseconds of processor time, without the embedder's."""
    points = []
    for size in sizes:
        real = Corpus(tuple(f"text {row}" for row in range(size)), None, "stub")
        for kind in ("crowded", "diverse"):
            config = RunConfig(n=size, round_size=256, panel_selection=kind)
            panels = Panels(config, EXPERT.task, real, None, Random())  # type: ignore[arg-type]
            panels.draw(None, 256, 0)
            began = time.process_time()
            for number in range(ROUNDS):
                panels.draw(None, 256, number + 1)
            spent = round(1000 * (time.process_time() - began) / ROUNDS)
            report(f"a pool of {size}: {kind} panels: {spent} ms a round")
            points.append({"pool": size, "panels": kind, "milliseconds": spent})
    return points


def _alone(step: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[float, int]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, step, arguments).result()


def _timed(step: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[float, int]:
    began = time.process_time()
    step(*arguments)
    return round(time.process_time() - began, 2), _peak()


def _peak() -> int:
    """This process's largest resident memory, MiB, since it is one of its own: what `getrusage`
    says may be its parent's."""
    status = Path("/proc/self/status").read_text("ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "records.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)

    def report(said: str) -> None:
        console.print(said, highlight=False)

    with tempfile.TemporaryDirectory() as folder:
        points = measure(options.sizes, Path(folder), report)
    chosen = select(options.sizes, report)
    found = {"machine": machine("cpu"), "versions": versions(), "points": points, "panels": chosen}
    write_results(options.out, json.dumps(found, indent=2) + "\n")
    console.print(f"Written to {options.out}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())

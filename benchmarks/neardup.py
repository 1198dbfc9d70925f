"""Near duplicates: what a look-up costs as texts are added: `python -m benchmarks.neardup`.

Writes benchmarks/results/neardup.json: processor time a record and memory, for unrelated texts and
for texts that share their opening.
"""

import argparse
import json
import multiprocessing
import random
import string
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.machine import machine, versions
from steer.data.neardup import NearIndex

RESULTS = Path(__file__).parent / "results"
LETTERS = string.ascii_lowercase + " "


@dataclass(frozen=True)
class Plan:
    """`sizes` at which the time since the one before is told; texts have `opening` characters in
    common and `rest` of their own, and the unrelated ones as many in all."""

    sizes: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 100_000)
    opening: int = 87
    rest: int = 24


QUICK = Plan(sizes=(200, 400))


def texts(plan: Plan, shared: bool) -> Iterator[str]:
    """Draws texts without an end, the same ones each time."""
    draw = random.Random(0)
    opening = "".join(draw.choices(LETTERS, k=plan.opening))
    while True:
        own = draw.choices(LETTERS, k=plan.rest + (0 if shared else plan.opening))
        yield (opening if shared else "") + "".join(own)


def grow(plan: Plan, shared: bool) -> list[dict[str, Any]]:
    """Looks each text up and adds it; gives processor milliseconds a record since the size before,
    so that each merge of the index is in one of them, and the memory taken since the start, of
    texts, their keys and the index."""
    index, process, points = NearIndex(), psutil.Process(), []
    before, began, last = process.memory_info().rss, time.process_time(), 0
    for number, text in zip(range(1, plan.sizes[-1] + 1), texts(plan, shared), strict=False):
        if index.find(text) is None:
            index.add(str(number), text)
        if number in plan.sizes:
            spent = (time.process_time() - began) / (number - last)
            taken = (process.memory_info().rss - before) / number
            point = {"records": number, "milliseconds": round(spent * 1000, 3)}
            points.append(point | {"bytes_per_record": round(taken)})
            began, last = time.process_time(), number
    return points


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neardup", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: whether it runs at all")
    parser.add_argument("--out", type=Path, default=RESULTS / "neardup.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)

    def report(said: str) -> None:
        console.print(f"{said} ...", highlight=False)

    return run(lambda: _run(options.out, QUICK if options.quick else Plan(), report), console)


def _run(out: Path, plan: Plan, report: Callable[[str], None]) -> None:
    require_place(out)
    found: dict[str, Any] = {
        "machine": machine("cpu"),
        "versions": versions(),
        "settings": asdict(plan),
    }
    for name, shared in {"unrelated": False, "one_opening": True}.items():
        report(f"{plan.sizes[-1]} texts, {name}")
        # In a process of its own: one that has let memory go before would not show what is taken.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found[name] = pool.submit(grow, plan, shared).result()
    write_results(out, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

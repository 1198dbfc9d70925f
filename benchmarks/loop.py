"""What a loop between rounds would add to correction (docs/correction.md).

    .venv/bin/python -m benchmarks.loop --candidates made.jsonl --real real.jsonl

Candidates are accepted in three rounds, and before the second and third a candidate's weight is
multiplied by the factor of its region (`steer.correction.regions`), or not. Half of the real texts
are read, the other half measures: how far the accepted texts' shares of the regions are from its
own (total variation), the AUROC of character 2-5-grams, and, as the guard, how the ratios that the
loop works by correlate over regions with the same ratios on unread texts.

Writes benchmarks/results/loop.json, a key for each file of candidates.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.correction import by_characters, summary
from benchmarks.machine import RESULTS
from benchmarks.table import Talk
from steer.correction.acceptance import accept
from steer.correction.regions import Regions
from steer.correction.selector import Sample, Selector, embedder_of
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.seeds import derive

ROUNDS, DRAWS, TAKEN = 3, 6, 300
Point = dict[str, Any]


def measure(
    made: Sequence[str], real: Sequence[str], draws: int, taken: int, report: Callable[[str], None]
) -> Point:
    """Measures over several halves of the real texts; means and standard errors."""
    embedder = embedder_of(None)
    vectors = {
        "made": embedder.embed(made).astype(np.float64),
        "real": embedder.embed(real).astype(np.float64),
    }
    rows = []
    for seed in range(draws):
        report(f"half {seed + 1} of {draws}")
        rows.append(_halves(made, real, vectors, taken, seed))
    return {"candidates": len(made), "real": len(real), "taken": taken} | summary(rows)


def _halves(
    made: Sequence[str],
    real: Sequence[str],
    vectors: dict[str, np.ndarray],
    taken: int,
    seed: int,
) -> Point:
    order = np.random.default_rng(seed).permutation(len(real))
    read, unread = np.array_split(order, 2)
    selector = Selector.fit(
        Sample([real[i] for i in read], vectors["real"][read]),
        Sample(made, vectors["made"]),
        seed=seed,
    )
    regions = Regions.fit(vectors["real"][read], seed)
    if regions is None:
        raise SteerError(f"found {len(real)} real texts: too few for regions; give more")
    others = Regions(regions.centres, _shares(regions, vectors["real"][unread]))
    place = regions.places(vectors["made"])
    found: Point = {}
    for name, scores, loop in (
        ("random", np.zeros(len(made)), False),
        ("loop", np.zeros(len(made)), True),
        ("corrected", selector.candidate_scores, False),
        ("corrected_loop", selector.candidate_scores, True),
    ):
        rows, adapted = _rounds(scores, place, regions, taken, seed, loop)
        texts = random.Random(seed).sample([made[row] for row in rows], len(rows))
        held = [real[i] for i in unread[: len(rows)]]
        found[name] = by_characters(held, texts)
        found[f"{name}_distance"] = others.uneven(place[rows])
        mine = _shares(regions, vectors["made"][rows])
        ratios = [np.log((each.shares + 0.005) / (mine + 0.005)) for each in (regions, others)]
        found[f"{name}_guard"] = float(np.corrcoef(ratios[0], ratios[1])[0, 1])
        if loop:
            found[f"{name}_adapted"] = adapted
    found["real_distance"] = others.uneven(regions.places(vectors["real"][read]))
    return found


def _shares(regions: Regions, rows: np.ndarray) -> np.ndarray:
    return np.bincount(regions.places(rows), minlength=len(regions.shares)) / len(rows)


def _rounds(
    scores: np.ndarray, place: np.ndarray, regions: Regions, taken: int, seed: int, loop: bool
) -> tuple[list[int], int]:
    """Accepts in rounds; gives the rows, and how many rounds were adapted."""
    order = np.random.default_rng(derive(seed, "rounds")).permutation(len(scores))
    rows: list[int] = []
    adapted = 0
    for number, some in enumerate(np.array_split(order, ROUNDS)):
        factor = regions.factors(place[rows] if loop else np.empty(0, dtype=int))
        adapted += int((factor != 1).any())
        weighted = scores[some] + np.log(factor[place[some]])
        n = taken * (number + 1) // ROUNDS - taken * number // ROUNDS
        took = accept(weighted, n, [str(i) for i in some], derive(seed, number))
        rows += [int(some[i]) for i in took.rows]
    return rows, adapted


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes results; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loop", description="What a loop between rounds would add."
    )
    parser.add_argument("--candidates", type=Path, required=True, help="texts to correct")
    parser.add_argument("--real", type=Path, required=True, help="real texts")
    parser.add_argument("--draws", type=int, default=DRAWS, help="halves of the real texts")
    parser.add_argument("--taken", type=int, default=TAKEN, help="texts accepted")
    parser.add_argument("--out", type=Path, default=RESULTS / "loop.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, Talk(console)), console)


def _run(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    require_place(options.out)
    made, real = (
        list(dict.fromkeys(load_corpus(str(path)).texts))
        for path in (options.candidates, options.real)
    )
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    found = measure(made, real[: 2 * len(made)], options.draws, options.taken, report)
    results = known | {options.candidates.stem: found}
    write_results(options.out, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""What the correction of whole texts gives, and from how many real texts on.

    .venv/bin/python -m benchmarks.correction --candidates made.jsonl --real real.jsonl

- *Known distributions*: bags of words whose true ratio is known (`benchmarks.known`). How well the
  true ratio tells fresh real texts from 200 of 600 candidates, drawn at random or corrected, by how
  many real texts the selector reads. And the control: real texts as candidates.
- *Files*: candidates corrected towards one half of the real texts, told from the other half by a
  logistic regression of character 2-5-grams, which the selector never saw (5 folds). The control
  corrects a quarter of the real texts towards the first half. Then again with fewer real texts.

Writes benchmarks/results/correction.json and docs/pictures/correction.svg.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.known import OTHER, REAL, GroupEmbedder, log_ratio, texts
from benchmarks.machine import RESULTS
from benchmarks.pictures import draw_picture
from benchmarks.table import Talk
from steer.correction import selector
from steer.correction.correct import correct
from steer.data.corpus import load_corpus
from steer.errors import SteerError

Point = dict[str, Any]
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "correction.svg"


@dataclass(frozen=True)
class Plan:
    """Plan of the measurement: numbers of real texts, repetitions of each, candidates and how many
    are taken; for files, how many are taken and how often, then with `fewer` real texts."""

    real: tuple[int, ...] = (50, 100, 200, 400, 800)
    repetitions: int = 12
    candidates: int = 600
    taken: int = 200
    fresh: int = 1000
    from_files: int = 300
    draws: int = 4
    fewer: tuple[int, ...] = (50, 100, 200)
    fewer_draws: int = 3


TINY = Plan((110,), 1, 120, 40, 60, 110, 1, (105,), 1)


def known(plan: Plan, report: Callable[[str], None]) -> list[Point]:
    """Measures corrections of texts whose ratio is known: for each number of real texts, AUROCs of
    the true ratio, means and standard errors over the repetitions."""
    points = []
    for real in plan.real:
        report(f"known distributions, {real} real texts")
        # What happens below the least number is what that number is chosen by.
        with mock.patch.object(selector, "LEAST", min(real, selector.LEAST)):
            rows = [_once(plan, real, seed) for seed in range(plan.repetitions)]
        points.append({"real": real} | summary(rows))
    return points


def _once(plan: Plan, real: int, seed: int) -> Point:
    read, fresh = texts(REAL, real, 1000 + seed), texts(REAL, plan.fresh, 2000 + seed)
    others = texts(OTHER, plan.candidates, 3000 + seed)
    control = texts(REAL, plan.candidates, 4000 + seed)
    took, kept = (
        correct(made, read, plan.taken, embedder=GroupEmbedder(), seed=seed)
        for made in (others, control)
    )
    return {
        "random": _by_ratio(fresh, others[: plan.taken]),
        "corrected": _by_ratio(fresh, took.texts),
        "effective": took.correction.effective,
        "control_random": _by_ratio(fresh, control[: plan.taken]),
        "control_corrected": _by_ratio(fresh, kept.texts),
        "control_effective": kept.correction.effective,
    }


def _by_ratio(fresh: Sequence[str], made: Sequence[str]) -> float:
    from sklearn.metrics import roc_auc_score

    ratios = log_ratio([*fresh, *made])
    return float(roc_auc_score(np.arange(len(ratios)) < len(fresh), ratios))


def files(candidates: Path, real: Path, plan: Plan, report: Callable[[str], None]) -> Point:
    """Measures the correction of a file's different texts, over several halves of the real ones."""
    made = list(dict.fromkeys(load_corpus(str(candidates)).texts))
    whole = list(dict.fromkeys(load_corpus(str(real)).texts))
    rows = []
    for seed in range(plan.draws):
        report(f"{candidates.name}, half {seed + 1} of {plan.draws}")
        rows.append(_halves(made, whole, plan.from_files, seed))
    return {"candidates": len(made), "real": len(whole), "taken": plan.from_files} | summary(rows)


def _halves(made: Sequence[str], whole: Sequence[str], n: int, seed: int) -> Point:
    rng = random.Random(seed)
    mixed = rng.sample(list(whole), len(whole))
    read, unread = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
    took = correct(made, read, n, seed=seed)
    some = len(unread) // 2
    kept = correct(unread[:some], read, some // 2, seed=seed)
    found = {
        "random": by_characters(unread[:n], rng.sample(list(made), n)),
        "corrected": by_characters(unread[:n], took.texts),
        "control_random": by_characters(unread[some:], rng.sample(unread[:some], some // 2)),
        "control_corrected": by_characters(unread[some:], kept.texts),
        "control_effective": kept.correction.effective,
    }
    names = ("effective", "capped", "exponent", "before", "after")
    return found | {name: getattr(took.correction, name) for name in names}


def by_real_texts(
    candidates: Path, real: Path, plan: Plan, report: Callable[[str], None]
) -> list[Point]:
    """Measures the correction of a file towards few of the real texts."""
    made = list(dict.fromkeys(load_corpus(str(candidates)).texts))
    whole = list(dict.fromkeys(load_corpus(str(real)).texts))
    rows: dict[int, list[Point]] = {n: [] for n in plan.fewer}
    for seed in range(plan.fewer_draws):
        rng = random.Random(seed)
        mixed = rng.sample(whole, len(whole))
        unread, n = mixed[len(mixed) // 2 :], plan.from_files
        at_random = by_characters(unread[:n], rng.sample(made, n))
        for read in plan.fewer:
            report(f"{candidates.name}, {read} real texts, draw {seed + 1}")
            with mock.patch.object(selector, "LEAST", min(read, selector.LEAST)):
                took = correct(made, mixed[:read], n, seed=seed)
            corrected = by_characters(unread[:n], took.texts)
            effective = took.correction.effective
            rows[read].append({"random": at_random, "corrected": corrected, "effective": effective})
    return [{"real": read} | summary(some) for read, some in rows.items()]


def by_characters(real: Sequence[str], made: Sequence[str]) -> float:
    """AUROC of a logistic regression of character 2-5-grams, on rows that it was not fitted on."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    grams = TfidfVectorizer(analyzer="char", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    features = grams.fit_transform([*real, *made])
    kind = np.arange(len(real) + len(made)) < len(real)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    judge = LogisticRegression(C=10, max_iter=200, class_weight="balanced")
    scores = cross_val_predict(judge, features, kind, cv=folds, method="decision_function")
    return float(roc_auc_score(kind, scores))


def summary(rows: Sequence[Point]) -> Point:
    """Means over the rows, and standard errors where there are several."""
    found: Point = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows if row[name] is not None], dtype=float)
        if len(values):
            found[name] = round(float(values.mean()), 4)
        if len(values) > 1:
            found[f"{name}_error"] = round(float(values.std(ddof=1) / len(values) ** 0.5), 4)
    return found


def picture(results: Point, path: Path) -> None:
    """Draws the known distributions by number of real texts, and the files."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    x = [point["real"] for point in results["known"]]
    series = {
        "random": ("candidates at random", "tab:red", "-"),
        "corrected": ("corrected", "tab:blue", "-"),
        "control_random": ("real texts at random", "0.6", ":"),
        "control_corrected": ("real texts, corrected", "0.3", "--"),
    }
    for name, (label, colour, style) in series.items():
        y, error = ([p.get(key, 0) for p in results["known"]] for key in (name, f"{name}_error"))
        left.errorbar(x, y, error, label=label, color=colour, linestyle=style, marker="o", ms=4)
    left.set(title="Known distributions", xlabel="real texts that the selector reads")
    left.set_ylabel("AUROC of the true ratio")
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:.0f}")
    left.set_xticks(x)
    left.legend(fontsize=8)
    names = [name for name in series if name in results["files"]]
    heights = [results["files"][name] for name in names]
    errors = [results["files"].get(f"{name}_error", 0) for name in names]
    labels = [series[name][0].replace(" ", "\n", 1).replace(", ", ",\n") for name in names]
    right.bar(labels, heights, yerr=errors, color=[series[name][1] for name in names], width=0.6)
    right.set_ylim(0.4, None)
    right.tick_params(axis="x", labelsize=7)
    right.set(title="Published outputs", ylabel="AUROC, character 2-5-grams")
    for axes in (left, right):
        axes.axhline(0.5, color="black", linewidth=0.8)
        axes.grid(alpha=0.3, axis="y")
    draw_picture(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes results and picture; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.correction", description="What correction of whole texts gives."
    )
    parser.add_argument("--candidates", type=Path, required=True, help="texts to correct")
    parser.add_argument("--real", type=Path, required=True, help="real texts")
    parser.add_argument("--out", type=Path, default=RESULTS / "correction.json")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, Plan(), Talk(console)), console)


def _run(options: argparse.Namespace, plan: Plan, report: Callable[[str], None]) -> None:
    for place in (options.out, options.picture):
        require_place(place)
    if not options.candidates.is_file():
        raise SteerError(f"no such file: {options.candidates}; give texts with --candidates")
    results = {
        "files": files(options.candidates, options.real, plan, report),
        "files_by_real": by_real_texts(options.candidates, options.real, plan, report),
        "known": known(plan, report),
    }
    write_results(options.out, json.dumps(results, indent=2) + "\n")
    picture(results, options.picture)


if __name__ == "__main__":
    sys.exit(main())

"""Results of the study: means over seeds with intervals, and differences between methods, from the
comparisons made."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from steer.errors import SteerError
from steer.experiments.comparison import Comparison

REAL = "real"
LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Table of every method's figures for each seed: `values[metric]` is (methods, seeds), NaN
    where a metric has no value. `accepted` and `attempts` are summed over the seeds."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    n: int
    values: Mapping[str, np.ndarray]
    accepted: Mapping[str, int]
    attempts: Mapping[str, int]
    short: tuple[str, ...]

    def mean(self, metric: str, method: str) -> Mean | None:
        """Computes the mean over seeds. Three seeds say little about one method's spread, so the
        spread is pooled over all methods: an analysis of variance with one mean a method."""
        found = self.values[metric]
        row = found[self.methods.index(method)]
        if np.isnan(row).any():
            return None
        whole = found[~np.isnan(found).any(axis=1)]
        freedom = len(whole) * (len(self.seeds) - 1)
        residual = whole - whole.mean(axis=1, keepdims=True)
        half = _half(residual, freedom) / sqrt(len(self.seeds))
        return Mean(float(row.mean()), float(row.mean() - half), float(row.mean() + half))

    def difference(self, metric: str, one: str, other: str) -> Mean | None:
        """Computes `one` less `other`. Methods of a seed are measured against the same real texts,
        so what a seed adds to all of them is taken out first."""
        found = self.values[metric]
        a, b = (found[self.methods.index(name)] for name in (one, other))
        if np.isnan([a, b]).any():
            return None
        whole = found[~np.isnan(found).any(axis=1)]
        residual = whole - whole.mean(axis=1, keepdims=True)
        residual -= residual.mean(axis=0, keepdims=True)
        freedom = (len(whole) - 1) * (len(self.seeds) - 1)
        half = _half(residual, freedom) * sqrt(2 / len(self.seeds))
        gain = float((a - b).mean())
        return Mean(gain, gain - half, gain + half)


def _half(residual: np.ndarray, freedom: int) -> float:
    """Computes half of the interval of one value."""
    if freedom < 1:
        raise SteerError("an interval needs two methods and two seeds at least")
    spread = sqrt(float((residual**2).sum()) / freedom)
    return spread * float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def read(folders: Mapping[int, Path], wanted: Collection[str]) -> Table:
    """Reads the `wanted` methods of the comparisons of the seeds, by seed, and the real texts.
    Raises `SteerError` when a comparison was not evaluated."""
    found = {seed: _rows(folder) for seed, folder in folders.items()}
    shared = [set(rows) for rows in found.values()]
    first = next(iter(found.values()))
    kept = {REAL, *wanted}
    methods = tuple(name for name in first if name in kept and all(name in each for each in shared))
    metrics = [key for key in first[REAL] if key != "name"]
    entries = {
        seed: {entry.name: entry for entry in Comparison.open(folder).entries}
        for seed, folder in folders.items()
    }
    names = {name for each in entries.values() for name in each if name in kept}

    def total(field: str) -> dict[str, Any]:
        return {
            name: sum(getattr(each[name], field) or 0 for each in entries.values() if name in each)
            for name in names
        }

    return Table(
        methods,
        tuple(folders),
        _n(next(iter(folders.values()))),
        {metric: _values(metric, methods, found) for metric in metrics},
        total("accepted"),
        total("attempts"),
        tuple(sorted(names - set(methods))),
    )


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in _evaluation(folder)["rows"]}


def _n(folder: Path) -> int:
    return int(_evaluation(folder)["n"])


def _evaluation(folder: Path) -> dict[str, Any]:
    path = folder / "evaluation.json"
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}; run the step again") from None
    return values


def _values(
    metric: str, methods: Sequence[str], found: Mapping[int, Mapping[str, Mapping[str, Any]]]
) -> np.ndarray:
    values = [[rows[name][metric]["value"] for rows in found.values()] for name in methods]
    return np.array(values, dtype=float)

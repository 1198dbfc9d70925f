"""Results of the study: means over the cells of a task with intervals, and differences."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from benchmarks.study.measure import measured
from benchmarks.study.parts import CELLS


@dataclass(frozen=True)
class Mean:
    """A mean with its 95% interval; None where it has none."""

    mean: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float]:
        """Gives the values that are there, rounded."""
        return {name: round(value, 5) for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Table:
    """Table of a task: `cells` hold for each cell what every set came to, by metric, as
    `steer.evaluation` writes an estimate. Cells share no real text that is reported on."""

    names: tuple[str, ...]
    cells: tuple[Mapping[str, Mapping[str, Any]], ...]
    sets: tuple[str, ...]
    n: int

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that every cell and set has."""
        first = next(iter(self.cells[0].values()))
        return tuple(key for key in first if all(key in s for c in self.cells for s in c.values()))

    def mean(self, metric: str, name: str) -> Mean | None:
        """Computes the mean over the cells; None where one has no value or no such set. The
        interval holds the noise of the texts, not that of fitting another expert."""
        if name not in self.sets:
            return None
        found = [cell[name][metric] for cell in self.cells]
        if any(each["value"] is None for each in found):
            return None
        return _mean(found)

    def difference(self, metric: str, one: str, other: str) -> Mean | None:
        """Computes `one` less `other`, as if they were measured apart: both are measured against
        the same real texts, so the interval is rather too wide."""
        a, b = self.mean(metric, one), self.mean(metric, other)
        if a is None or b is None:
            return None
        gain = a.mean - b.mean
        if a.low is None or a.high is None or b.low is None or b.high is None:
            return Mean(gain)
        down = sqrt((a.mean - a.low) ** 2 + (b.high - b.mean) ** 2)
        up = sqrt((a.high - a.mean) ** 2 + (b.mean - b.low) ** 2)
        return Mean(gain, gain - down, gain + up)


def _mean(found: Sequence[Mapping[str, Any]]) -> Mean:
    """Averages independent estimates; their errors add as squares."""
    values = [each["value"] for each in found]
    mean = sum(values) / len(values)
    if any(each.get("low") is None for each in found):
        return Mean(mean)
    down = sqrt(sum((each["value"] - each["low"]) ** 2 for each in found)) / len(found)
    up = sqrt(sum((each["high"] - each["value"]) ** 2 for each in found)) / len(found)
    return Mean(mean, mean - down, mean + up)


def together(gains: Sequence[Mean]) -> Mean:
    """Computes the mean of independent differences, those of tasks, which share no text."""
    return _mean([vars(gain) | {"value": gain.mean} for gain in gains])


def read(work: Path, task: str) -> Table | None:
    """Reads the cells of a task that were measured, with the sets that all of them have; None
    before the first."""
    paths = {cell.name: measured(work, cell) for cell in CELLS if cell.task == task}
    found = {name: json.loads(path.read_bytes()) for name, path in paths.items() if path.exists()}
    if not found:
        return None
    cells = tuple(each["sets"] for each in found.values())
    sets = tuple(name for name in cells[0] if all(name in cell for cell in cells))
    n = min(each["n"] for each in found.values())
    return Table(tuple(found), cells, sets, n)

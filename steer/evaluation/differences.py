"""Differences between sets of texts, and which of them are more than chance."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from steer.evaluation.estimate import LEVELS, Sampled

_POWERED = 2.8
"""Standard errors that a difference must have to be found four times in five: 1.96 for the interval
and 0.84 for the power (Cohen 1988)."""


@dataclass(frozen=True)
class Difference:
    """Figure `key` of the row `one` less that of the row `other`, with its 95% interval: paired, as
    both are compared with the same reference texts. `error` is its standard error."""

    key: str
    one: str
    other: str
    value: float
    low: float
    high: float
    error: float

    @property
    def beyond(self) -> bool:
        """Whether it is more than chance: its interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def differences(key: str, rows: Mapping[str, Sampled]) -> tuple[Difference, ...]:
    """Differences of all pairs of rows in one figure, in the order of the rows."""
    return tuple(_difference(key, *pair) for pair in combinations(rows.items(), 2))


def _difference(key: str, first: tuple[str, Sampled], second: tuple[str, Sampled]) -> Difference:
    (one, a), (other, b) = first, second
    samples = a.samples - b.samples
    low, high = (float(each) for each in np.percentile(samples, LEVELS))
    return Difference(key, one, other, a.value - b.value, low, high, float(samples.std()))


def detectable(found: Iterable[Difference]) -> float:
    """Smallest difference that as many texts show four times in five: the median over the
    pairs."""
    return _POWERED * median(each.error for each in found)


def verdict(
    title: str, values: Mapping[str, float], found: Sequence[Difference], real: str, n: int
) -> str:
    """One sentence on the rows of a table: which is highest, what it is ahead of, how it compares
    with `real` texts, and how large a difference `n` texts can show. `values` are the figures that
    the differences `found` are of."""
    names = sorted((name for name in values if name != real), key=lambda name: -values[name])
    if not names or real not in values:
        return f"by {title}, nothing can be compared: a figure is missing"
    best = names[0]
    apart = {frozenset((each.one, each.other)): each for each in found}
    level = [name for name in names[1:] if not apart[frozenset((best, name))].beyond]
    behind = [name for name in names[1:] if name not in level]
    said = ", ".join(_clauses(best, level, behind, _against(apart[frozenset((best, real))])))
    smallest = detectable(found)
    return f"by {title}, {said}; {n} texts a row show differences from {smallest:.2f}"


def _clauses(best: str, level: Sequence[str], behind: Sequence[str], against: str) -> Iterator[str]:
    if behind:
        yield f"{best} is ahead of {_listed(behind)}"
    if level:
        yield f"{'' if behind else f'{best} is '}not told apart from {_listed(level)}"
    yield f"{'and ' if behind or level else f'{best} is '}{against}"


def _against(found: Difference) -> str:
    if not found.beyond:
        return "not told apart from real texts"
    return f"{'below' if found.value < 0 else 'above'} real texts"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""Acceptance of candidates at random, in proportion to a power of their estimated ratio."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steer.seeds import derive

CAP = 10.0
"""A weight is at most so many times the mean one: the estimate is worst where it is largest."""

_STEPS = 1000


@dataclass(frozen=True)
class Acceptance:
    """Rows that were accepted, sorted, and how that went.

    Weights are exp(`exponent` * log ratio), at most `CAP` times their mean. `effective` is their
    effective sample size over the number of candidates: (sum w)^2 / sum w^2 / candidates (Kong
    1992). `capped` is the share of the candidates whose weight, or chance of 1, was cut.
    """

    rows: tuple[int, ...]
    candidates: int
    exponent: float
    effective: float
    capped: float


def accept(
    scores: Sequence[float] | np.ndarray, n: int, keys: Sequence[str], seed: int
) -> Acceptance:
    """Accepts `n` of the candidates by their `scores`, log p_real - log p_candidate.

    A candidate's chance is in proportion to its weight, so the accepted are distributed as the real
    texts are, as far as the scores are right (discriminator rejection sampling, arXiv 1810.06758).
    The exponent is 1, or the largest one below at which `n` is within the effective sample size.
    `keys` are different names of the candidates: with the seed they decide, and order does not.
    """
    order = sorted(range(len(keys)), key=lambda row: derive(seed, "accept", keys[row]))
    ratios = np.asarray(scores, dtype=np.float64)[order]
    n = min(n, len(order))
    if not n:
        return Acceptance((), len(order), 1.0, 1.0, 0.0)
    exponent = _exponent(ratios, n)
    weights, cut = _weights(exponent * ratios)
    chances = _chances(weights, n)
    start = random.Random(derive(seed, "accept")).random()
    chosen = _systematic(chances, n, start)
    capped = (cut | ((chances >= 1) & (n < len(order)))).mean()
    effective = _effective(weights) / len(order)
    rows = tuple(sorted(order[place] for place in chosen))
    return Acceptance(rows, len(order), exponent, round(effective, 4), round(float(capped), 4))


def effective(scores: Sequence[float] | np.ndarray) -> float:
    """Effective sample size of texts with these log ratios, over their number: 1 where all are
    alike."""
    return _effective(_weights(np.asarray(scores, dtype=np.float64))[0]) / len(scores)


def _exponent(ratios: np.ndarray, n: int) -> float:
    """Finds the largest exponent, a multiple of 1/1000, with an effective sample size of `n`."""
    low, high = 0, _STEPS
    while low < high:
        middle = (low + high + 1) // 2
        enough = _effective(_weights(middle / _STEPS * ratios)[0]) >= n
        low, high = (middle, high) if enough else (low, middle - 1)
    return low / _STEPS


def _weights(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the weights, (rows,), and which of them were cut to `CAP` times the mean."""
    weights = np.exp(logs - logs.max())
    cut = np.zeros(len(weights), dtype=bool)
    # Each pass cuts more, as the mean falls; in the end none is above its bound.
    while (over := weights > CAP * weights.mean() * (1 + 1e-9)).any():
        cut |= over
        rest = weights[~cut].sum()
        weights = np.where(cut, CAP * rest / max(1e-300, len(weights) - CAP * cut.sum()), weights)
    return weights, cut


def _effective(weights: np.ndarray) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum())


def _chances(weights: np.ndarray, n: int) -> np.ndarray:
    """Chances of inclusion, (rows,), in proportion to the weights, at most 1, `n` in all."""
    chances = n * weights / weights.sum()
    sure = np.zeros(len(weights), dtype=bool)
    while (over := (chances >= 1) & ~sure).any():
        sure |= over
        left = weights[~sure].sum()
        share = (n - sure.sum()) * weights / left if left else np.zeros(len(weights))
        chances = np.where(sure, 1.0, share)
    return chances


def _systematic(chances: np.ndarray, n: int, start: float) -> list[int]:
    """Draws `n` places, each with its chance: those where the running sum passes `start`,
    `start` + 1, and so on (systematic sampling, Madow 1949)."""
    ends = np.cumsum(chances)
    ends *= n / ends[-1]
    marks = start + np.arange(n)
    return [int(place) for place in np.searchsorted(ends, marks, side="right")]

"""Where texts end: how much sooner or later than real texts an expert would end its own, by the
tokens written so far, and the bias that takes that away.

An expert that was fitted on few long texts says at the end of every paragraph that the text may end
there. Each such chance is small, and there are many before the real texts' first end. A bias on the
logits of the end changes when texts end, and little of what they say.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import gammaincc

from steer.config import EndBias

SAMPLED = 100
"""Texts that are read at most; those that the expert was not fitted on come first."""

_GROUPED, _PARTS = 6, 10  # ends in a group, at least; groups of many texts
_PRIOR = 0.5  # ends by which both counts are larger: no count is zero
_CHANCE = 0.001


def end_bias(log_probs: Sequence[np.ndarray]) -> EndBias:
    """Finds the bias for an expert by its log-probabilities that a real text ends, before each of
    the text's tokens; the last one, (tokens,)[-1], is where it does.

    Positions are grouped by how many texts end there. In each group the ends that the expert
    expects, the sum of its probabilities, are compared with the real ones: a hazard ratio, whose
    log is the bias. Where chance could differ as much (G-test) there is none, ().
    """
    ends = np.sort([len(each) - 1 for each in log_probs])
    bounds = list(_bounds(ends))
    real = np.histogram(ends, [*bounds, np.inf])[0]
    expected = np.array([_expected(log_probs, a, b) for a, b in _pairs(bounds)])
    if _by_chance(real, expected) > _CHANCE:
        return ()
    bias = np.log((real + _PRIOR) / (expected + _PRIOR))
    return tuple((int(a), round(float(each), 3)) for a, each in zip(bounds, bias, strict=True))


def _by_chance(real: np.ndarray, expected: np.ndarray) -> float:
    """Probability that independent Poisson counts are as far from what is expected (G-test)."""
    expected = np.maximum(expected, 1e-9)
    log_ratio = np.log(np.maximum(real, 1) / expected)
    surprise = 2 * np.sum(np.where(real > 0, real * log_ratio, 0.0) - (real - expected))
    return float(gammaincc(len(real) / 2, max(0.0, surprise) / 2))


def _bounds(ends: np.ndarray) -> Iterator[int]:
    """Positions from which the groups go: before the first end, then of about as many each."""
    size = max(_GROUPED, -(-len(ends) // _PARTS))
    yield from sorted({0, *(int(ends[place]) for place in range(0, len(ends) - size + 1, size))})


def _pairs(bounds: Sequence[int]) -> Iterator[tuple[int, int | None]]:
    yield from zip(bounds, [*bounds[1:], None], strict=True)


def _expected(log_probs: Sequence[np.ndarray], first: int, last: int | None) -> float:
    """Sums the probabilities of an end at the positions from `first` to before `last`."""
    return float(sum(np.exp(each[first:last]).sum() for each in log_probs))

"""Logistic regression with an L2 penalty, for many small fits along a path of penalties."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_NEWTON, _GRADIENTS = 30, 60
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Line:
    """A fitted logistic regression: log ratio = features @ `slope` + `intercept`."""

    slope: np.ndarray
    intercept: float

    def __call__(self, features: Any) -> np.ndarray:
        """Computes the log ratio of each row, fp64 (rows,)."""
        return np.asarray(features @ self.slope, dtype=np.float64) + self.intercept


def fit_path(
    features: Any, real: np.ndarray, weights: np.ndarray, penalties: Sequence[float]
) -> list[Line]:
    """Fits one line for each of `penalties`, inverse strengths from the strongest on.

    `features` are a dense or sparse matrix (rows, d), `real` (rows,) says which rows are real and
    `weights` (rows,) count them. A line estimates log p_real - log p_candidate: the log of the two
    samples' weights is taken off its intercept, which is not penalised.
    """
    signs = np.where(real, 1.0, -1.0)
    prior = float(np.log(weights[real].sum() / weights[~real].sum()))
    values = np.zeros(features.shape[1] + 1)
    values[-1] = prior
    lines = []
    for penalty in penalties:
        values = _minimise(features, signs, weights, penalty, values)
        lines.append(Line(values[:-1], float(values[-1] - prior)))
    return lines


def _minimise(
    features: Any, signs: np.ndarray, weights: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
    """Minimises sum of weight * log(1 + exp(-sign * z)) + |slope|^2 / (2 penalty) by Newton steps,
    each by conjugate gradients (Lin et al. 2008, JMLR 9: trust region Newton, here with line
    search). Slope and intercept are one vector (d + 1,)."""
    shrink = np.full(len(start), 1 / penalty)
    shrink[-1] = 0.0
    across = features.T

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = signs * (features @ values[:-1] + values[-1])
        return float(weights @ np.logaddexp(0.0, -z) + shrink @ values**2 / 2), z

    values, scale = start, weights.sum()
    now, z = loss(values)
    for _ in range(_NEWTON):
        far = 0.5 * (1 - np.tanh(z / 2))  # the sigmoid of -z
        slope = -weights * signs * far
        gradient = np.append(across @ slope, slope.sum()) + shrink * values
        size = float(np.linalg.norm(gradient))
        if size <= _TOLERANCE * scale / 100:
            break
        curve = weights * far * (1 - far)

        def product(v: np.ndarray, curve: np.ndarray = curve) -> np.ndarray:
            bent = curve * (features @ v[:-1] + v[-1])
            return np.append(across @ bent, bent.sum()) + shrink * v

        step = _solve(product, -gradient, 0.1 * size)
        values, now, z = _search(loss, values, step, now, float(gradient @ step))
    return values


def _solve(
    product: Callable[[np.ndarray], np.ndarray], right: np.ndarray, tolerance: float
) -> np.ndarray:
    """Solves `product`(x) = `right` by conjugate gradients until the rest is below `tolerance`."""
    found, rest = np.zeros_like(right), right
    way, square = rest, float(rest @ rest)
    for _ in range(_GRADIENTS):
        bent = product(way)
        along = float(way @ bent)
        if along <= 0:
            break
        length = square / along
        found, rest = found + length * way, rest - length * bent
        before, square = square, float(rest @ rest)
        if square <= tolerance**2:
            break
        way = rest + square / before * way
    return found


def _search(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]],
    values: np.ndarray,
    step: np.ndarray,
    now: float,
    along: float,
) -> tuple[np.ndarray, float, np.ndarray]:
    """Halves the step until the loss falls as it should (Armijo's rule)."""
    share = 1.0
    while True:
        moved = values + share * step
        new, z = loss(moved)
        if new <= now + 1e-4 * share * along or share < 1e-6:
            return moved, new, z
        share /= 2

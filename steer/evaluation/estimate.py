"""A measured number with its uncertainty, or the reason why it is missing."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty: `low` and `high` bound a 95% bootstrap interval over texts;
    `sd` is the standard deviation over repetitions (k-means seeds, folds). `reason` says why
    `value` is None or rests on fewer repetitions than were asked for."""

    value: float | None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Gives the fields that are set; `value` always."""
        return {k: v for k, v in asdict(self).items() if k == "value" or v is not None}


def resample_counts(n: int, draws: int, seed: int) -> np.ndarray:
    """Counts of each of `n` texts in each bootstrap sample, shape (draws, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def interval(value: float, samples: np.ndarray) -> Estimate:
    """Estimate of `value` with the 2.5th and 97.5th percentile of its bootstrap `samples`."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def mean_with_interval(values: np.ndarray, counts: np.ndarray) -> Estimate:
    """Mean over texts; `values` (n,), `counts` (draws, n) from `resample_counts`."""
    return interval(values.mean(), counts @ values / len(values))


def mean_with_sd(values: list[float], reason: str) -> Estimate:
    """Mean and standard deviation over repetitions; without any, no value and the `reason`."""
    if not values:
        return Estimate(None, reason=reason)
    return Estimate(float(np.mean(values)), sd=float(np.std(values)))

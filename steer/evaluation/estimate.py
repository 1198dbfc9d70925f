"""A measured number with its uncertainty, or the reason why it is missing."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from steer.seeds import derive

LEVELS = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty: `low` and `high` bound a 95% interval over texts; `sd` is the
    standard deviation over repetitions (k-means seeds, random shares). `reason` says why `value`
    is None or rests on less than was asked for."""

    value: float | None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Gives the fields that are set; `value` always."""
        return {k: v for k, v in asdict(self).items() if k == "value" or v is not None}


@dataclass(frozen=True, eq=False)
class Sampled:
    """A figure and its bootstrap `samples` (draws,), from which differences are made: those of two
    rows are paired, as every row is compared with the same draws of the reference texts."""

    value: float
    samples: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """The value with its interval."""
        return interval(self.value, self.samples)


@dataclass(frozen=True, eq=False)
class Draws:
    """Bootstrap samples of a row and of the reference texts, as the counts (draws, n) of each
    text."""

    own: np.ndarray
    reference: np.ndarray

    def of(
        self, value: float, own: np.ndarray | None = None, reference: np.ndarray | None = None
    ) -> Sampled:
        """Resamples a figure by the influence of each text on it, for the row's `own` and for the
        `reference` texts, each (texts,): how the figure moves when that text weighs more. For a
        mean it is the text's value less the mean. Where a figure depends on the number of different
        texts, drawing texts twice would bias it, and this does not (the infinitesimal jackknife,
        Jaeckel 1972; Efron 1982, chapter 6)."""
        samples = np.full(len(self.own), value)
        for counts, influence in ((self.own, own), (self.reference, reference)):
            if influence is not None:
                centred = influence - influence.mean()
                samples += counts[:, : len(centred)] @ centred / len(centred)
        return Sampled(value, samples)


def draws(n: int, number: int, seed: int, row: str) -> Draws:
    """Draws `number` bootstrap samples of `n` texts for a row; the reference texts' are the same
    for every row."""
    own = derive(seed, "bootstrap", row), derive(seed, "bootstrap")
    return Draws(*(resample_counts(n, number, each) for each in own))


def resample_counts(n: int, draws: int, seed: int) -> np.ndarray:
    """Counts of each of `n` texts in each bootstrap sample, shape (draws, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)


def interval(value: float, samples: np.ndarray) -> Estimate:
    """Estimate of `value` with the 2.5th and 97.5th percentile of its bootstrap `samples`."""
    low, high = np.percentile(samples, LEVELS)
    return Estimate(float(value), float(low), float(high))


def mean_with_interval(values: np.ndarray, counts: np.ndarray) -> Estimate:
    """Mean over texts; `values` (n,), `counts` (draws, n) from `resample_counts`."""
    return interval(values.mean(), counts @ values / len(values))


def mean_with_sd(values: list[float], reason: str) -> Estimate:
    """Mean and standard deviation over repetitions; without any, no value and the `reason`."""
    if not values:
        return Estimate(None, reason=reason)
    return Estimate(float(np.mean(values)), sd=float(np.std(values)))


def jackknife(value: float, without: np.ndarray) -> np.ndarray:
    """Influence of each text on a figure, (texts,), from the figure `without` each of them."""
    return (len(without) - 1) * (value - without)


def combine(function: Callable[..., Any], *parts: Sampled) -> Sampled:
    """Computes a figure from others, of each of their samples alike."""
    samples = function(*(part.samples for part in parts))
    return Sampled(float(function(*(part.value for part in parts))), samples)


def shares_below(
    values: np.ndarray, reference: np.ndarray, tail: float, draws: Draws
) -> tuple[Sampled, float]:
    """Share of a row's `values` that are as low as the lowest `tail` of the `reference` values; the
    threshold is drawn anew with the reference texts. Gives also the reference texts' own share."""
    order = np.argsort(reference, kind="stable")
    wanted = np.ceil(tail * len(reference))
    reached = draws.reference[:, order].cumsum(axis=1) < wanted
    thresholds = reference[order][reached.sum(axis=1)]
    threshold = reference[order][int(wanted) - 1]
    ordered = np.argsort(values, kind="stable")
    drawn = np.pad(draws.own[:, ordered].cumsum(axis=1), ((0, 0), (1, 0)))
    places = np.searchsorted(values[ordered], thresholds, side="right")
    samples = np.take_along_axis(drawn, places[:, None], axis=1)[:, 0] / len(values)
    share = Sampled(float((values <= threshold).mean()), samples)
    return share, float((reference <= threshold).mean())

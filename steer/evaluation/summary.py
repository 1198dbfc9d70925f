"""Summary of a set in one figure: the harmonic mean of four parts, each 1 for texts that are as the
reference texts are.

Nothing is clipped: a part above 1 is better than the reference texts are, by chance or because the
sampling was kind. Real texts are measured as any set is, and come out near 1, not at 1.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from steer.evaluation.estimate import Estimate, Sampled, combine

PARTS = ("fidelity_score", "diversity_score", "coherence_score", "non_copying_score")
SUMMARY = "summary"
NO_SUMMARY = "no summary without coherence"

Parts = Mapping[str, Sampled | None]
Name = TypeVar("Name", bound=Hashable)


def pareto_front(points: Mapping[Name, Sequence[float]]) -> list[Name]:
    """Finds the names of the points, each a value for every direction, more being better, that no
    other beats in one direction without losing in another; in their order."""
    return [name for name, point in points.items() if not _beaten(point, points.values())]


def _beaten(point: Sequence[float], others: Iterable[Sequence[float]]) -> bool:
    return any(
        tuple(other) != tuple(point) and all(a >= b for a, b in zip(other, point, strict=True))
        for other in others
    )


def summarise(parts: Parts) -> Sampled | None:
    """Computes the harmonic mean of the parts that have a value; None without coherence, which a
    set of nonsense would lack most."""
    known = [part for key in PARTS if (part := parts.get(key)) is not None]
    if parts.get("coherence_score") is None:
        return None
    return combine(_harmonic, *known)


def harmonic_mean(values: Sequence[float]) -> float | None:
    """Harmonic mean: 0 when one of the values is not above 0; None without any."""
    return float(_harmonic(*values)) if values else None


def summary_estimates(parts: Parts, reasons: Mapping[str, str]) -> dict[str, Estimate]:
    """Gives the estimates of the four parts and the summary. `reasons` say why a part is missing;
    the summary is without such a part, or missing too when that is coherence."""
    missing = [key.removesuffix("_score") for key in PARTS if parts.get(key) is None]
    estimates = {
        key: Estimate(None, reason=reasons.get(key)) if part is None else part.estimate
        for key in PARTS
        for part in (parts.get(key),)
    }
    whole = summarise(parts)
    if whole is None:
        return estimates | {SUMMARY: Estimate(None, reason=NO_SUMMARY)}
    found = whole.estimate
    reason = f"without {', '.join(missing)}" if missing else None
    return estimates | {SUMMARY: Estimate(found.value, found.low, found.high, reason=reason)}


def fidelity(auroc: Sampled) -> Sampled:
    """Fidelity: 2 (1 - AUROC) of the strongest detector, which is 1 where it can only guess and 0
    where it is never wrong; the proxy A-distance (Ben-David et al. 2006) turned round."""
    return combine(lambda value: 2 * (1 - value), auroc)


def diversity(vendi: Sampled, grams: Sampled | None) -> Sampled:
    """Diversity: the geometric mean of the set's Vendi score (meaning) and distinct 3-grams over
    equal words (wording), each over the reference texts'. Both are given as logarithms of these
    shares; without 3-grams it is the Vendi score alone."""
    if grams is None:
        return combine(np.exp, vendi)
    return combine(lambda one, other: np.exp((one + other) / 2), vendi, grams)


def coherence(nonsense: Sampled, usual: float, distance: Sampled, floor: float) -> Sampled:
    """Coherence: the share of texts that are no nonsense over that of the reference texts, times
    exp of minus the distance of the likelihoods, less the `floor` that real texts have by chance.
    The first counts bad texts, the second what a count misses, sharpened texts above all."""
    return combine(
        lambda share, apart: (1 - share) / (1 - usual) * np.exp(floor - apart), nonsense, distance
    )


def non_copying(close: Sampled, usual: float) -> Sampled:
    """Non-copying: the share of texts that are not too close to a training text, over that of the
    reference texts."""
    return combine(lambda share: (1 - share) / (1 - usual), close)


def _harmonic(*values: np.ndarray | float) -> np.ndarray:
    stacked = np.stack(np.broadcast_arrays(*values))
    positive = (stacked > 0).all(axis=0)
    inverse = (1 / np.where(stacked > 0, stacked, 1)).sum(axis=0)
    found: np.ndarray = np.where(positive, len(stacked) / inverse, 0.0)
    return found

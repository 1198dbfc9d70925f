"""Summary of a set in one figure: four components from 0 to 1, each scaled by the row of real
texts.

Components are functions of the table's own figures, so that a reader can check them.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import exp, sqrt
from typing import TypeVar

from steer.evaluation.estimate import Estimate

PARTS = ("fidelity_score", "diversity_score", "coherence_score", "non_copying_score")
GAPS = ("judge_gap", "judge_gap_2")

Estimates = Mapping[str, Estimate]
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


def summarise(row: Estimates, real: Estimates) -> dict[str, Estimate]:
    """Computes the four components of a row, and their harmonic mean over those that have a
    value."""
    scores = (_fidelity(row, real), _diversity(row, real), _coherence(row, real))
    parts = dict(zip(PARTS, (*scores, _non_copying(row, real)), strict=True))
    known = [part.value for part in parts.values() if part.value is not None]
    missing = [key.removesuffix("_score") for key, part in parts.items() if part.value is None]
    reason = f"without {', '.join(missing)}" if missing else None
    return parts | {"summary": Estimate(harmonic_mean(known), reason=reason)}


def harmonic_mean(values: Sequence[float]) -> float | None:
    """Harmonic mean: 0 when one of the values is; None without any."""
    if not values or min(values) <= 0:
        return 0.0 if values else None
    return len(values) / sum(1 / value for value in values)


def _fidelity(row: Estimates, real: Estimates) -> Estimate:
    """Fidelity: how little both adversaries can tell, as a share of what real texts leave them: the
    mean of min(1, (1 - max(a, 1/2)) / (1 - max(a_real, 1/2)))."""
    keys = ("auroc_trees", "auroc_logistic")
    return _mean([_share(_unknown(row[key]), _unknown(real[key])) for key in keys])


def _diversity(row: Estimates, real: Estimates) -> Estimate:
    """Diversity: geometric mean of the shares of the real texts' Vendi score (meaning) and of their
    distinct 3-grams over equal words (wording)."""
    keys = ("vendi_1", "three_grams_equal_words")
    shares = [_share(row[key].value, real[key].value) for key in keys]
    if None in shares:
        return Estimate(None, reason="no diversity to compare")
    return Estimate(sqrt((shares[0] or 0) * (shares[1] or 0)))


def _coherence(row: Estimates, real: Estimates) -> Estimate:
    """Coherence: exp(-|gap|) over exp(-|gap of the real texts|), at most 1, mean over the judges:
    the factor between the likelihoods of a token. Texts that are likelier than real ones lose as
    much as those that are less likely."""
    gaps = [(row[key].value, real[key].value) for key in GAPS]
    shares = [min(1.0, exp(abs(r) - abs(g))) for g, r in gaps if g is not None and r is not None]
    if not shares:
        return Estimate(None, reason=row[GAPS[0]].reason)
    return _mean(shares)


def _non_copying(row: Estimates, real: Estimates) -> Estimate:
    """Non-copying: the rate of texts that are no near copies, times that of authentic texts, each
    as a share of the real texts' and at most 1."""
    new = _share(_rest(row["near_copies"]), _rest(real["near_copies"]))
    authentic = _share(row["authenticity"].value, real["authenticity"].value)
    if new is None or authentic is None:
        return Estimate(None, reason="no copying to compare")
    return Estimate(new * authentic)


def _mean(values: Sequence[float | None]) -> Estimate:
    if None in values:
        return Estimate(None, reason="nothing to compare: texts repeat too much")
    known = [value for value in values if value is not None]
    return Estimate(sum(known) / len(known))


def _unknown(auroc: Estimate) -> float | None:
    return None if auroc.value is None else 1 - max(auroc.value, 0.5)


def _rest(share: Estimate) -> float | None:
    return None if share.value is None else 1 - share.value


def _share(value: float | None, real: float | None) -> float | None:
    """Divides `value` by the real texts', to at most 1; None where these have nothing."""
    if value is None or not real or real < 0:
        return None
    return min(1.0, max(0.0, value / real))

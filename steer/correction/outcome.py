"""Outcome of a correction: how many candidates were accepted, and how far that could go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from steer.correction.acceptance import Acceptance


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Figures of a correction, of one label where there are labels.

    `exponent`, `effective` and `capped` are those of `Acceptance`. `before` and `after` are
    cross-fitted AUROCs of candidates and of accepted texts against real ones, each by models fitted
    for that: 0.5 where they cannot be told apart. The `uneven` ones are `Regions.uneven` of the
    same texts, and what chance alone would give the accepted. None is not measured.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    candidates: int
    accepted: int
    exponent: float
    effective: float
    capped: float
    before: float | None = None
    after: float | None = None
    uneven_before: float | None = None
    uneven_after: float | None = None
    uneven_chance: float | None = None
    label: str | None = None

    @classmethod
    def of(cls, took: Acceptance, before: float, label: str | None = None) -> "Correction":
        """Makes the figures of what was accepted; `before` is the selector's detectability."""
        return cls(
            candidates=took.candidates,
            accepted=len(took.rows),
            exponent=took.exponent,
            effective=took.effective,
            capped=took.capped,
            before=round(before, 4),
            label=label,
        )

    def to_json(self) -> dict[str, Any]:
        """Gives the fields as JSON values."""
        return dict(vars(self))


def overall(parts: Sequence[Correction]) -> Correction | None:
    """Sums up corrections, such as those of a run's rounds and labels; None where there are none.

    The exponent is the lowest; shares are means over candidates. Detectability is the last that was
    measured of each label, before and after alike, as a mean over the labels.
    """
    if not parts:
        return None
    measured = {part.label: part for part in parts if part.after is not None}
    last = measured or {part.label: part for part in parts}
    return Correction(
        candidates=sum(part.candidates for part in parts),
        accepted=sum(part.accepted for part in parts),
        exponent=min(part.exponent for part in parts),
        effective=_mean([(part.effective, part.candidates) for part in parts]) or 0.0,
        capped=_mean([(part.capped, part.candidates) for part in parts]) or 0.0,
        before=_mean([(part.before, 1) for part in last.values()]),
        after=_mean([(part.after, 1) for part in last.values()]),
        uneven_before=_mean([(part.uneven_before, 1) for part in last.values()]),
        uneven_after=_mean([(part.uneven_after, 1) for part in last.values()]),
        uneven_chance=_mean([(part.uneven_chance, 1) for part in last.values()]),
    )


def describe(correction: Correction) -> dict[str, str]:
    """Says a correction in words: a figure for each name that a reader is shown."""
    shown = {"before": correction.before, "after": correction.after}
    areas = {
        f"told from real, {name}": f"AUROC {area:.3f}"
        for name, area in shown.items()
        if area is not None
    }
    spread = {}
    if correction.uneven_after is not None and correction.uneven_before is not None:
        spread["off the real texts' regions"] = (
            f"{correction.uneven_before:.0%} before, {correction.uneven_after:.0%} after, "
            f"{correction.uneven_chance:.0%} by chance"
        )
    return {
        "chosen": f"{correction.accepted} of {correction.candidates} candidates",
        "effective sample size": f"{correction.effective:.2f} of the candidates",
        "weights capped": f"{correction.capped:.1%}",
        "exponent": f"{correction.exponent:g}",
        **areas,
        **spread,
    }


def _mean(values: Sequence[tuple[float | None, int]]) -> float | None:
    """Weighted mean of the values that are known, to four places; None of none."""
    known = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in known)
    return round(sum(value * weight for value, weight in known) / total, 4) if total else None

import json

import pytest
from pydantic import TypeAdapter

from steer.correction.outcome import Correction, describe, overall
from steer.values import checked


def part(
    candidates: int, exponent: float, effective: float, *, label: str | None = None, **areas: float
) -> Correction:
    return Correction(
        candidates=candidates,
        accepted=candidates // 3,
        exponent=exponent,
        effective=effective,
        capped=0.1,
        label=label,
        **areas,
    )


PARTS = [
    part(300, 1, 0.4, label="a", before=0.7, after=0.6),
    part(100, 0.8, 0.8, label="b", before=0.9, after=0.8),
    part(300, 1, 0.4, label="a", before=0.8, after=0.5),
    part(100, 1, 0.8, label="b", before=0.95),
]


def test_the_whole_is_the_sum_of_its_parts() -> None:
    whole = overall(PARTS)
    assert whole is not None
    assert (whole.candidates, whole.accepted, whole.exponent) == (800, 266, 0.8)
    assert (whole.effective, whole.capped) == pytest.approx((0.5, 0.1))
    # The last that was measured of each label: a mean over a and b.
    assert (whole.before, whole.after) == pytest.approx((0.85, 0.65))


def test_what_was_not_measured_is_not_shown() -> None:
    assert overall([]) is None
    whole = overall(PARTS[3:])
    assert whole is not None and (whole.before, whole.after) == (0.95, None)
    shown = describe(whole)
    assert shown["told from real, before"] == "AUROC 0.950"
    assert "told from real, after" not in shown
    assert shown["chosen"] == "33 of 100 candidates"
    assert "off the real texts' regions" not in shown


def test_unevenness_is_said_beside_chance() -> None:
    whole = overall([part(300, 1, 0.4, uneven_before=0.25, uneven_after=0.154, uneven_chance=0.12)])
    assert whole is not None
    said = describe(whole)["off the real texts' regions"]
    assert said == "25% before, 15% after, 12% by chance"


def test_it_reads_back() -> None:
    kind = TypeAdapter(Correction)
    assert [checked(kind, json.dumps(each.to_json()).encode()) for each in PARTS] == PARTS
    with pytest.raises(ValueError, match="unknown"):
        checked(kind, json.dumps(PARTS[0].to_json() | {"unknown": 1}).encode())

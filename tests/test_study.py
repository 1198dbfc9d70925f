"""The study's arithmetic and its parts; the study itself is run by hand (docs/study.md)."""

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.study import parts
from benchmarks.study.parts import Sizes, cut, part
from benchmarks.study.plan import BASELINES, FIXED, OURS, VARIANTS
from benchmarks.study.results import Table
from steer.methods import find_methods

A, B = [0.80, 0.84, 0.88], [0.70, 0.75, 0.77]


def table(*rows: list[float]) -> Table:
    names = tuple("abcdef"[: len(rows)])
    values = {"summary": np.array(rows, dtype=float)}
    return Table(names, (0, 1, 2), 50, values, {}, {}, ())


def test_a_difference_of_two_methods_is_a_paired_t_interval() -> None:
    found = table(A, B).difference("summary", "a", "b")
    expected = stats.ttest_rel(A, B).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_mean_has_the_spread_of_all_methods() -> None:
    found = table(A, B).mean("summary", "a")
    pooled = sqrt((np.var(A, ddof=1) + np.var(B, ddof=1)) / 2)
    half = pooled / sqrt(3) * stats.t.ppf(0.975, 4)
    assert found is not None
    assert found.mean == pytest.approx(0.84)
    assert (found.high - found.mean, found.mean - found.low) == pytest.approx((half, half))


def test_a_metric_without_a_value_has_no_mean_and_spoils_no_other() -> None:
    with_gap = table(A, B, [0.5, float("nan"), 0.5])
    assert with_gap.mean("summary", "c") is None
    assert with_gap.difference("summary", "a", "c") is None
    assert with_gap.mean("summary", "a") == table(A, B).mean("summary", "a")


def test_parts_share_no_row_and_are_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parts.SIZES, "comments", Sizes(5, 4, 3, 2))
    rows = "".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(20))
    (tmp_path / "comments.jsonl").write_text(rows)
    found = []
    for work in (tmp_path / "one", tmp_path / "two"):
        cut(tmp_path, work, "comments")
        found.append([part(work, "comments", name).read_text() for name in parts.PARTS])
    assert found[0] == found[1]
    lines = [line for text in found[0] for line in text.splitlines()]
    assert len(lines) == len(set(lines)) == 14


def test_every_family_has_as_many_settings_and_all_exist() -> None:
    families = BASELINES | OURS
    assert len({len(family) for family in families.values()}) == 1
    names = [*VARIANTS, *(each for family in families.values() for each in family)]
    for name in [*names, *(each for fixed in FIXED.values() for each in fixed)]:
        find_methods(name, labelled=True)

"""The study's arithmetic and its parts; the study itself is run by hand (docs/study.md)."""

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.study import parts
from benchmarks.study.pages import together
from benchmarks.study.parts import Sizes, cut, part
from benchmarks.study.plan import BASELINES, DEFAULT, FIXED, OURS, VARIANTS
from benchmarks.study.results import Mean, Table
from benchmarks.study.streams import STREAMS
from benchmarks.study.weights import Text, likeliest
from steer.config import Guidance
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


def test_independent_differences_are_averaged_and_their_intervals_narrow() -> None:
    found = together([Mean(0.1, 0.07, 0.13), Mean(0.3, 0.26, 0.34)])
    assert (found.mean, found.high - found.mean) == pytest.approx((0.2, 0.05 / 2))
    assert found.mean - found.low == pytest.approx(0.05 / 2)


def test_the_default_of_the_study_is_that_of_the_product() -> None:
    (found,) = find_methods(DEFAULT, labelled=False)
    assert found.guidance == Guidance()


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


TRUE = torch.tensor([1.3, -0.4, 0.2])


def written_texts(number: int, tokens: int = 300, vocab: int = 12) -> list[Text]:
    """Texts drawn from the weights `TRUE` over streams of random predictions."""
    draw = torch.Generator().manual_seed(number)
    found = []
    for _ in range(number):
        log_probs = torch.randn(3, tokens, vocab, generator=draw).log_softmax(-1)
        p = torch.einsum("s,stv->tv", TRUE, log_probs).softmax(-1)
        found.append(Text(log_probs.half(), p.multinomial(1, generator=draw).squeeze(-1)))
    return found


def test_the_likeliest_weights_are_those_that_wrote_the_texts() -> None:
    found = likeliest(written_texts(40), STREAMS)
    assert list(found.weights.values()) == pytest.approx(TRUE.tolist(), abs=0.06)
    assert found.expert - found.nats > found.low > 0
    assert found.high > found.expert - found.nats


def test_likeliest_weights_of_some_streams_leave_the_others_out() -> None:
    texts = written_texts(20)
    alone = likeliest(texts, ("expert",))
    assert (alone.weights["base"], alone.weights["negative"]) == (0, 0)
    assert alone.nats > likeliest(texts, STREAMS).nats


def test_weights_that_gain_nothing_are_seen_as_such() -> None:
    """Each half is measured with the weights of the other: a fit to chance is no gain."""
    draw = torch.Generator().manual_seed(7)
    texts = [
        Text(
            torch.randn(3, 20, 12, generator=draw).log_softmax(-1).half(),
            torch.randint(12, (20,), generator=draw),
        )
        for _ in range(6)
    ]
    uniform = torch.full((1, 20, 12), 1 / 12).log()
    plain = [Text(torch.cat([uniform.half(), text.log_probs[1:]]), text.tokens) for text in texts]
    found = likeliest(plain, STREAMS[1:])
    assert found.low < 0

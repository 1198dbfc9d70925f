import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.evaluation.diversity import (
    compression_ratio,
    distinct,
    distinct_product,
    distinct_without,
    repetitions,
    self_bleus,
    vendi_influence,
    vendi_score,
)

TEXTS = ["the cat sat on the mat", "The dog sat on the mat", "a bird", "why do stars die young"]


def test_distinct_by_hand() -> None:
    assert distinct(["a b a b"], 2) == 2 / 3
    assert distinct(["a b", "a b", "b a"], 2) == 2 / 3
    assert distinct(["A b", "a,  B\n"], 2) == 1 / 2
    assert distinct(["星は星は"], 2) == 2 / 3


def test_runs_across_two_texts_do_not_count() -> None:
    assert distinct(["a b", "c d", "b c"], 2) == 1.0


def test_product_by_hand() -> None:
    # 2-grams: ab bc ca ab bc: 3 of 5; 3-grams: abc bca cab abc: 3 of 4; 4-grams: 3 of 3.
    assert distinct_product(["a b c a b c"]) == pytest.approx(3 / 5 * 3 / 4)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_one_text_repeated(n: int) -> None:
    assert distinct(["one two three four five"] * 7, n) == pytest.approx(1 / 7)


def test_too_short_for_any_run_is_not_a_number() -> None:
    assert math.isnan(distinct(["a b", "c"], 3))
    assert math.isnan(distinct_product(["a b c", "c"]))


def test_repetition_is_within_one_text() -> None:
    # a a a a: 1 of 3 2-grams, 1 of 2 3-grams, 1 of 1 4-grams are distinct.
    values = repetitions(["a a a a", "a b c d", "a b c d", "a", "x y x y x"])
    assert values == pytest.approx([1 - 1 / 6, 0, 0, 0, 1 - 2 / 4 * 2 / 3])


def test_compression_tells_repeats_from_noise() -> None:
    noise = random.Random(0)
    varied = ["".join(noise.choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for _ in range(100)]
    assert compression_ratio(varied) < 2
    assert compression_ratio(varied[:1] * 100) > 20


def test_compression_finds_repeats_far_apart() -> None:
    noise = random.Random(0)
    varied = ["".join(noise.choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for _ in range(2000)]
    assert compression_ratio(varied * 2) > 1.8 * compression_ratio(varied)


@pytest.mark.parametrize("measure", [compression_ratio, distinct_product, lambda t: distinct(t, 3)])
def test_order_has_no_effect(measure) -> None:
    shuffled = random.Random(1)
    expected = measure(TEXTS)
    for _ in range(5):
        assert measure(shuffled.sample(TEXTS, len(TEXTS))) == expected


def unit_rows(n: int, d: int) -> np.ndarray:
    rows = np.random.default_rng(n).normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("order", [1, 2])
def test_vendi_counts_texts_that_have_nothing_in_common(order: int) -> None:
    assert vendi_score(np.eye(7), order) == pytest.approx(7)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0), order) == pytest.approx(3)
    assert vendi_score(np.repeat(unit_rows(1, 6), 9, axis=0), order) == pytest.approx(1)


def test_vendi_of_two_uneven_groups() -> None:
    # Eigenvalues 3/4 and 1/4.
    rows = np.eye(2)[[0, 0, 0, 1]]
    assert vendi_score(rows, 2) == pytest.approx(1 / (9 / 16 + 1 / 16))
    assert vendi_score(rows, 1) == pytest.approx(4 / 3**0.75)


@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_vendi_equals_the_named_package(shape: tuple[int, int]) -> None:
    vendi = pytest.importorskip("vendi_score.vendi")
    rows = unit_rows(*shape)
    for order in (1, 2):
        assert vendi_score(rows, order) == pytest.approx(vendi.score_dual(rows, q=order))


def vendi_of(rows: np.ndarray, weights: np.ndarray, order: int) -> float:
    """The logarithm of the Vendi score of weighted texts."""
    values = np.linalg.eigvalsh((rows * weights[:, None]).T @ rows / weights.sum())
    values = values[values > 1e-12]
    if order == 1:
        return float(-(values * np.log(values)).sum())
    return float(np.log((values**order).sum()) / (1 - order))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("shape", [(30, 6), (6, 20)], ids=["more texts", "more coordinates"])
def test_influence_on_vendi_is_its_derivative(shape: tuple[int, int], order: int) -> None:
    rows, more = unit_rows(*shape), 1e-5
    ones, n = np.ones(len(rows)), len(rows)
    assert vendi_of(rows, ones, order) == pytest.approx(math.log(vendi_score(rows, order)))
    slopes = [
        (vendi_of(rows, ones + step, order) - vendi_of(rows, ones - step, order)) / (2 * more)
        for step in more * n * np.eye(n)
    ]
    found = vendi_influence(rows, order)
    assert found == pytest.approx(slopes, abs=1e-5)
    assert found.mean() == pytest.approx(0, abs=1e-9)


def test_influence_on_vendi_of_one_text_repeated_is_none() -> None:
    assert vendi_influence(np.repeat(unit_rows(1, 6), 9, axis=0), 1) == pytest.approx(np.zeros(9))


def test_a_rare_text_adds_to_vendi_and_a_common_one_takes() -> None:
    found = vendi_influence(np.eye(2)[[0, 0, 0, 1]], 1)
    assert found[3] > 0 > found[0]


@given(st.lists(st.lists(st.sampled_from("ab,"), max_size=6).map(" ".join), max_size=6))
def test_distinct_without_a_text_is_distinct_of_the_others(texts: list[str]) -> None:
    expected = [distinct(texts[:i] + texts[i + 1 :], 2) for i in range(len(texts))]
    assert list(distinct_without(texts, 2)) == pytest.approx(expected, nan_ok=True)


wordings = st.lists(st.sampled_from(["a", "b", "b,", "c"]), min_size=1, max_size=9).map(" ".join)


@settings(deadline=None)  # its first call loads the package
@given(st.lists(wordings, min_size=2, max_size=6))
def test_self_bleu_equals_the_named_package(texts: list[str]) -> None:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    expected = [
        bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100
        for i, text in enumerate(texts)
    ]
    assert self_bleus(texts) == pytest.approx(expected)


def test_self_bleu_at_the_extremes() -> None:
    assert self_bleus(["why do all stars die young ?"] * 3) == pytest.approx(1)
    unlike = self_bleus(["a b c d e", "f g h i j", "k l m n o"])
    assert unlike.max() < 0.1

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
    repetitions,
    self_bleus,
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

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.data.words import words
from steer.evaluation.copying import (
    TAIL,
    Known,
    authentic,
    closeness,
    closeness_among,
    exact_copies,
    longest_runs,
    near_copies,
    nearest_cosines,
)
from steer.evaluation.estimate import draws, shares_below

TRAIN = [
    "Do massive stars lose most of their mass before they explode as supernovae?",
    "Is the thick disk of our galaxy older than its halo?",
]
UNRELATED = "A recipe for bread with nuts"


def known(texts: list[str], threshold: float = 0.8) -> Known:
    return Known(texts, np.eye(len(texts), 8), threshold)


sentences = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)


def longest_by_hand(text: str, train: list[str]) -> int:
    """Every run of `text`, looked for in every training text."""
    runs = [0]
    query = words(text)
    for other in map(words, train):
        for i in range(len(query)):
            for j in range(i + 1, len(query) + 1):
                size = j - i
                if any(other[k : k + size] == query[i:j] for k in range(len(other))):
                    runs.append(size)
    return max(runs)


@given(st.lists(sentences, min_size=1, max_size=4), st.lists(sentences, min_size=1, max_size=4))
def test_longest_run_equals_a_search_of_all_runs(texts: list[str], train: list[str]) -> None:
    assert list(longest_runs(texts, train)) == [longest_by_hand(text, train) for text in texts]


def test_longest_run_by_hand() -> None:
    texts = [TRAIN[0], "the thick disk of our galaxy is young", UNRELATED, "Older THAN its halo?"]
    assert list(longest_runs(texts, TRAIN)) == [13, 6, 0, 4]


def test_a_run_does_not_span_two_texts() -> None:
    assert list(longest_runs(["a b c d"], ["a b", "c d"])) == [2]
    assert list(longest_runs(["a b", "c d"], ["a b c d"])) == [2, 2]


def test_exact_copies_may_differ_in_case_and_white_space() -> None:
    texts = [TRAIN[1], TRAIN[1].upper().replace(" ", "  "), TRAIN[1][:-1], UNRELATED]
    assert list(exact_copies(texts, known(TRAIN))) == [True, True, False, False]


def test_copies_in_any_script_and_unicode_form() -> None:
    train = ["なぜ星は死ぬのか", "Où naissent les étoiles ?"]
    texts = ["なせ\u3099星は死ぬ", "OU\u0300 NAISSENT LES E\u0301TOILES\u00a0?"]
    assert list(exact_copies(texts, known(train))) == [False, True]
    assert list(longest_runs(texts, train)) == [6, 4]


def test_near_copies_include_exact_and_slightly_changed_ones() -> None:
    changed = TRAIN[0].replace("massive", "massive,")
    assert list(near_copies([TRAIN[0], changed, UNRELATED], known(TRAIN))) == [True, True, False]
    assert list(near_copies(["a?", "b?"], known(["A?"]))) == [True, False]


def test_near_copies_follow_the_threshold() -> None:
    changed = TRAIN[0].replace("massive", "massive,")
    assert not near_copies([changed], known(TRAIN, threshold=0.99)).any()


def test_perfect_copy_in_any_order() -> None:
    assert exact_copies(TRAIN[::-1], known(TRAIN)).all()
    assert near_copies(TRAIN[::-1], known(TRAIN)).all()
    assert list(longest_runs(TRAIN[::-1], TRAIN)) == [11, 13]


def test_nearest_cosine_by_hand() -> None:
    train = np.array([[1.0, 0.0], [0.0, 1.0]])
    rows = np.array([[0.6, 0.8], [-1.0, 0.0], [1.0, 0.0]])
    assert np.allclose(nearest_cosines(rows, train), [0.8, 0.0, 1.0])


def line(*places: float) -> np.ndarray:
    return np.array([[place, 0.0] for place in places])


def test_authenticity_by_hand() -> None:
    # The known texts lie at 0, 1 and 4: their nearest others are 1, 1 and 3 away.
    train = Known(["a", "b", "c"], line(0, 1, 4))
    rows = line(0, 0.6, -1.5, 6, 8)
    assert list(authentic(rows, train)) == [False, False, True, False, True]


def test_copies_of_repeated_texts_are_not_authentic() -> None:
    train = Known(["a", "b", "A "], line(0, 5, 0.0001))
    assert len(train.distinct) == 2
    assert not authentic(line(0.001), train).any()


def test_independent_texts_are_authentic_unless_neighbours_are_mutual() -> None:
    # A text is not authentic when it and its nearest known text are each other's nearest: in the
    # plane that is so for 1 / (4/3 + sqrt(3) / (2 pi)) of random points (Pickard 1982).
    draw = np.random.default_rng(0)
    train = Known([str(i) for i in range(4000)], draw.random((4000, 2)))
    expected = 1 - 1 / (4 / 3 + np.sqrt(3) / (2 * np.pi))
    assert authentic(draw.random((4000, 2)), train).mean() == pytest.approx(expected, abs=0.03)
    assert not authentic(train.rows[:500], train).any()


def test_closeness_is_minus_the_cosine_and_copies_are_closest() -> None:
    train = Known(TRAIN, np.array([[1.0, 0.0], [0.0, 1.0]]))
    rows = np.array([[0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.8, 0.6]])
    changed = TRAIN[0].replace("massive", "massive,")
    texts = [TRAIN[0], UNRELATED, "Another thing", changed]
    found = closeness(near_copies(texts, train), nearest_cosines(rows, train.rows))
    assert found == pytest.approx([-np.inf, -0.8, 0.0, -np.inf])


def test_closeness_among_leaves_a_text_itself_out() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert closeness_among(rows) == pytest.approx([-0.6, -0.8, -0.8])


def test_too_close_by_hand() -> None:
    # 20 real texts: the closest has a cosine of 0.95. What is as close, or a copy, is too close.
    real = -np.linspace(0.0, 0.95, 20)
    mine = np.array([-np.inf, -0.99, -0.95, -0.94, *[0.0] * 16])
    share, usual = shares_below(mine, real, TAIL, draws(20, 200, 0, "row"))
    assert (share.value, usual) == (3 / 20, 1 / 20)
    assert share.estimate.low <= share.value <= share.estimate.high


def test_real_texts_that_are_copies_make_copies_usual() -> None:
    real = np.array([-np.inf] * 3 + [-0.5] * 17)
    share, usual = shares_below(real, real, TAIL, draws(20, 200, 0, "row"))
    assert share.value == usual == 3 / 20


def test_texts_without_a_word_share_no_run() -> None:
    assert list(longest_runs(["?!", "a"], ["...", "b a"])) == [0, 1]
    assert list(longest_runs(["?!"], ["?!"])) == [0]

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from steer.metrics.copying import exact_copies, longest_runs, near_copies, nearest_cosines
from steer.metrics.words import words

TRAIN = [
    "Do massive stars lose most of their mass before they explode as supernovae?",
    "Is the thick disk of our galaxy older than its halo?",
]
UNRELATED = "A recipe for bread with nuts"

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


def test_exact_copies_differ_in_case_and_white_space_only() -> None:
    texts = [TRAIN[1], TRAIN[1].upper().replace(" ", "  "), TRAIN[1][:-1], UNRELATED]
    assert list(exact_copies(texts, TRAIN)) == [True, True, False, False]


def test_near_copies_include_exact_and_slightly_changed_ones() -> None:
    changed = TRAIN[0].replace("massive", "massive,")
    assert list(near_copies([TRAIN[0], changed, UNRELATED], TRAIN)) == [True, True, False]
    assert list(near_copies(["a?", "b?"], ["A?"])) == [True, False]


def test_near_copies_follow_the_threshold() -> None:
    changed = TRAIN[0].replace("massive", "massive,")
    assert not near_copies([changed], TRAIN, threshold=0.99).any()


def test_perfect_copy_in_any_order() -> None:
    assert exact_copies(TRAIN[::-1], TRAIN).all()
    assert near_copies(TRAIN[::-1], TRAIN).all()
    assert list(longest_runs(TRAIN[::-1], TRAIN)) == [11, 13]


def test_nearest_cosine_by_hand() -> None:
    train = np.array([[1.0, 0.0], [0.0, 1.0]])
    rows = np.array([[0.6, 0.8], [-1.0, 0.0], [1.0, 0.0]])
    assert np.allclose(nearest_cosines(rows, train), [0.8, 0.0, 1.0])

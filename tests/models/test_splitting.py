"""The held-out part: a share of every label, and never all of one."""

import random
from collections import Counter

import pytest

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.models.examples import Encoded
from steer.models.expert import FitSettings
from steer.models.splitting import MOST_HELD_OUT, Split, split_texts
from steer.seeds import derive


def split(corpus: Corpus, seed: int = 0, held_out: float = 0.1) -> Split:
    encoded = [Encoded(input_ids=[1, 2], prompt=1) for _ in corpus.texts]
    return split_texts(corpus, encoded, 10, FitSettings(seed=seed, held_out=held_out))


def labelled(**sizes: int) -> Corpus:
    labels = [label for label, size in sizes.items() for _ in range(size)]
    random.Random(3).shuffle(labels)
    return Corpus(tuple(f"text {row}" for row in range(len(labels))), tuple(labels), "made")


@pytest.mark.parametrize("seed", range(20))
def test_a_label_with_one_text_is_trained_on(seed: int) -> None:
    corpus = labelled(common=30, rare=1, pair=2)
    found = split(corpus, seed, held_out=0.5)
    assert set(corpus.labels) == {corpus.labels[row] for row in found.train}
    assert len(found.held_out) == 16


def test_the_shares_of_the_labels_are_theirs() -> None:
    corpus = labelled(a=100, b=50, c=50)
    found = split(corpus)
    assert Counter(corpus.labels[row] for row in found.held_out) == {"a": 10, "b": 5, "c": 5}


def test_without_labels_the_draw_is_one_of_all_texts() -> None:
    texts = tuple(f"text {row}" for row in range(50))
    chosen = random.Random(derive(7, "held-out")).sample(texts, 5)
    found = split(Corpus(texts, None, "made"), seed=7)
    assert {texts[row] for row in found.held_out} == set(chosen)


def test_equal_texts_are_on_one_side_whatever_their_labels() -> None:
    corpus = Corpus(tuple(f"text {row % 20}" for row in range(60)), ("x", "y", "z") * 20, "made")
    found = split(corpus)
    sides = [{corpus.texts[row] for row in rows} for rows in (found.train, found.held_out)]
    assert not set.intersection(*sides)


def test_labels_of_one_text_each_are_refused() -> None:
    corpus = Corpus(tuple("abcdefghijkl"), tuple("abcdefghijkl"), "made")
    with pytest.raises(SteerError, match=r"12 labels has one text.* --label-column"):
        split(corpus)


def test_no_more_are_held_out_than_serve() -> None:
    found = split(labelled(a=3000, b=1000))
    assert len(found.held_out) == MOST_HELD_OUT
    assert len(found.kept) == 4000

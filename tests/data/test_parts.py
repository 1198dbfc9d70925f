"""Texts to fit on and texts to measure against; records shared out over labels."""

import pytest

from steer.data.corpus import Corpus, load_corpus
from steer.data.parts import divide, shared_out, write_jsonl
from steer.errors import SteerError

TEXTS = tuple(f"text number {n}" for n in range(100))
LABELS = tuple("ab"[n % 5 == 0] for n in range(100))


@pytest.mark.parametrize(("records", "held"), [(1, 20), (10, 20), (15, 30), (25, 50), (900, 50)])
def test_so_many_are_kept(records: int, held: int) -> None:
    fitted, kept = divide(Corpus(TEXTS, None, "d"), records)
    assert (len(fitted.texts), len(kept.texts)) == (100 - held, held)
    assert sorted(fitted.texts + kept.texts) == sorted(TEXTS)


def test_labels_have_equal_shares_and_equal_texts_stay_together() -> None:
    twice = Corpus((*TEXTS, *(text.upper() for text in TEXTS)), LABELS * 2, "d")
    fitted, kept = divide(twice, 10)
    assert not {text.lower() for text in fitted.texts} & {text.lower() for text in kept.texts}
    assert kept.labels is not None
    assert (kept.labels.count("a"), kept.labels.count("b")) == (32, 8)
    assert divide(twice, 10)[1] == kept != divide(twice, 10, seed=1)[1]


def test_they_are_read_back(tmp_path) -> None:
    corpus = Corpus(("one\nline", "два"), ("a", "b"), "d")
    write_jsonl(corpus, tmp_path / "d.jsonl")
    read = load_corpus(tmp_path / "d.jsonl", None, "label")
    assert (read.texts, read.labels) == (corpus.texts, corpus.labels)


@pytest.mark.parametrize(
    ("labels", "n", "shares"),
    [
        ("aaab", 8, {"a": 6, "b": 2}),
        ("a" * 99 + "b", 10, {"a": 9, "b": 1}),
        ("abc", 3, {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_shares(labels: str, n: int, shares: dict[str, int]) -> None:
    assert shared_out(list(labels), n) == shares


def test_with_more_records_no_label_gets_fewer() -> None:
    labels = list("a" * 50 + "b" * 31 + "c" * 11 + "d" * 5 + "e" * 2 + "f")
    before = shared_out(labels, 6)
    for n in range(7, 300):
        after = shared_out(labels, n)
        assert sum(after.values()) == n
        assert all(after[label] >= before[label] for label in before)
        before = after


def test_fewer_records_than_labels() -> None:
    with pytest.raises(SteerError, match="--n"):
        shared_out(list("abc"), 2)

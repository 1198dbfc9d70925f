"""The compact index against a dictionary of sets."""

import random
from collections import defaultdict

import numpy as np
import pytest

from steer.data import postings
from steer.data.postings import Postings


@pytest.mark.parametrize("largest", [16, 10_000])
def test_it_finds_what_a_dictionary_finds(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many sorts and merges, with keys that many numbers share and keys at both ends."""
    monkeypatch.setattr(postings, "BUFFER", 7)
    monkeypatch.setattr(postings, "LARGEST", largest)
    rng = random.Random(0)
    index, expected = Postings(3), defaultdict(set)
    keys = [0, 2**64 - 1, *(rng.getrandbits(64) for _ in range(300))]
    for number in range(2000):
        filed = rng.choices(keys, k=3)
        index.add(np.array(filed, dtype=np.uint64), number)
        for key in filed:
            expected[key].add(number)
        asked = [*rng.choices(keys, k=2), rng.getrandbits(64)]
        found = set().union(*(expected.get(key, set()) for key in asked))
        assert index.find(np.array(asked, dtype=np.uint64)) == found


def test_few_runs_for_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up searches each run: their number grows with the logarithm."""
    monkeypatch.setattr(postings, "BUFFER", 4)
    index = Postings(1)
    for number in range(4 * 1023):
        index.add(np.array([number], dtype=np.uint64), number)
    assert len(index._runs) == 10


def test_a_key_with_many_numbers_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where they come together, and else when they have been sorted together."""
    monkeypatch.setattr(postings, "BUFFER", 4)
    index = Postings(2, limit=5)
    common, slow = np.array([7, 8], dtype=np.uint64)
    for number in range(64):
        rare = np.uint64(100 + number)
        index.add(np.array([common, slow if number % 4 == 0 else rare]), number)
    assert index.closed(np.array([common])) and index.closed(np.array([slow, np.uint64(1)]))
    assert not index.closed(np.array([np.uint64(101), np.uint64(1)]))
    assert index.find(np.array([common])) == set(range(len(index.find(np.array([common])))))
    assert 5 < len(index.find(np.array([common]))) <= 10
    assert 5 < len(index.find(np.array([slow]))) < 16
    assert index.find(np.array([np.uint64(101)])) == {1}


def test_a_sort_when_all_keys_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "BUFFER", 4)
    index, key = Postings(1, limit=1), np.array([3], dtype=np.uint64)
    for number in range(12):
        index.add(key, number)
    assert index.find(key) == {0, 1}

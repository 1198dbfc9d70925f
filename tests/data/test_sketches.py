"""What sketches leave out can not be near, and rare shingles find all that is."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.data import sketches
from steer.data.sketches import Rarest, Sketches

elements = st.integers(0, 40)
sets = st.lists(st.sets(elements, min_size=1, max_size=30), min_size=1, max_size=12)


def hashes(chosen: set[int]) -> np.ndarray:
    return np.array([zlib.crc32(bytes([each])) for each in sorted(chosen)], dtype=np.uint64)


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


@given(sets, st.sampled_from([0.1, 1 / 3, 0.5, 0.8, 1.0]))
def test_no_near_set_is_left_out(given: list[set[int]], threshold: float) -> None:
    known, rarest = Sketches(), Rarest(threshold)
    for number, each in enumerate(given):
        known.add(hashes(each))
        rarest.add(hashes(each), number)
    for probe in given:
        near = {i for i, each in enumerate(given) if jaccard(probe, each) >= threshold}
        kept = known.near(set(range(len(given))), hashes(probe), threshold)
        assert near <= set(kept) and kept == sorted(kept)
        assert near <= rarest.find(hashes(probe))


@pytest.mark.parametrize("shared", [0, 80])
def test_most_that_is_unlike_is_left_out(shared: int) -> None:
    draw, size = np.random.default_rng(0), 110
    common = draw.integers(2**32, size=shared, dtype=np.uint64)
    known = Sketches()
    rows = [
        np.concatenate([common, draw.integers(2**32, size=size - shared, dtype=np.uint64)])
        for _ in range(500)
    ]
    for each in rows:
        known.add(each)
    kept = [known.near(set(range(500)), each, 0.8) for each in rows[:20]]
    assert all(number in each for number, each in enumerate(kept))
    assert sum(map(len, kept)) < 20 + 10
    assert known.near({0, 1}, rows[0][:20], 0.8) == []  # by its size alone


def test_what_all_share_is_not_what_they_are_filed_under() -> None:
    draw = np.random.default_rng(1)
    common = draw.integers(2**32, size=80, dtype=np.uint64)
    rarest = Rarest(0.8)
    for number in range(300):
        own = draw.integers(2**32, size=30, dtype=np.uint64)
        rarest.add(np.concatenate([common, own]), number)
    assert len(rarest.find(common)) < 5
    assert 299 in rarest.find(own)


def test_a_sketch_takes_32_bytes() -> None:
    assert len(sketches._sketch(hashes({1, 2, 3}))) == 32

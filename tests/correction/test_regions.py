"""Regions of the real texts: what each text's chances are multiplied by between rounds."""

import numpy as np
import pytest

from steer.correction.regions import LEAST, MOST, Regions

RNG = np.random.default_rng(0)
FOUR = Regions(np.eye(4), np.array([0.4, 0.3, 0.2, 0.1]))


def places(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_clusters_are_found_and_texts_placed_in_them() -> None:
    centres = np.eye(5)[[0, 0, 1, 2]]  # half of the texts are of the first kind
    rows = np.repeat(centres, 25, axis=0) + RNG.normal(scale=0.01, size=(100, 5))
    regions = Regions.fit(rows, 0)
    assert regions is not None
    assert len(regions.shares) == 5 and regions.shares.sum() == pytest.approx(1)
    found = regions.places(rows)
    assert regions.uneven(found) == 0
    kinds = [set(found[:50]), set(found[50:75]), set(found[75:])]
    assert not kinds[0] & kinds[1] and not kinds[1] & kinds[2] and not kinds[0] & kinds[2]


def test_few_texts_have_no_regions() -> None:
    assert Regions.fit(RNG.normal(size=(39, 5)), 0) is None


@pytest.mark.parametrize(
    ("accepted", "factors"),
    [
        (places(40, 30, 20, 10), [1, 1, 1, 1]),
        (places(46, 27, 17, 10), [1, 1, 1, 1]),  # as chance has it
        (np.empty(0, dtype=int), [1, 1, 1, 1]),
        (places(60, 30, 10, 0), [45 / 65, 1, 25 / 15, MOST]),
        (places(0, 0, 0, 100), [MOST, MOST, MOST, LEAST]),
    ],
)
def test_crowded_regions_count_for_less(accepted: np.ndarray, factors: list[float]) -> None:
    assert FOUR.factors(accepted) == pytest.approx(np.array(factors))


def test_unevenness_is_the_share_of_texts_in_the_wrong_place() -> None:
    assert FOUR.uneven(places(4, 3, 2, 1)) == pytest.approx(0)
    assert FOUR.uneven(places(5, 3, 2, 0)) == pytest.approx(0.1)
    assert FOUR.uneven(places(0, 0, 0, 7)) == pytest.approx(0.9)


@pytest.mark.parametrize("n", [50, 400])
def test_chance_is_what_drawn_texts_come_to(n: int) -> None:
    drawn = [FOUR.uneven(RNG.choice(4, n, p=FOUR.shares)) for _ in range(3000)]
    assert FOUR.chance(n) == pytest.approx(np.mean(drawn), rel=0.05)

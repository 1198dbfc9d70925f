import random

import numpy as np

from steer.runs import selection
from steer.runs.selection import crowded, diverse, nearest


def unit(*angles: float) -> np.ndarray:
    """Unit vectors in the plane, by their angles in degrees."""
    turned = np.radians(angles)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def test_crowded_finds_the_crowd() -> None:
    crowd = np.linspace(100, 104, 30)
    rows = unit(*np.linspace(-80, 80, 60), *crowd)
    for seed in range(5):
        chosen = crowded(rows, 6, random.Random(seed))
        assert len(set(chosen)) == 6
        assert all(row >= 60 for row in chosen)


def test_a_crowd_is_found_among_some_of_many(monkeypatch) -> None:
    monkeypatch.setattr(selection, "CROWD", 40)
    rows = unit(*np.linspace(-80, 80, 60), *np.linspace(100, 104, 60))
    assert all(row >= 60 for row in crowded(rows, 6, random.Random(0)))


def test_diverse_is_far_apart() -> None:
    rows = unit(0, 1, 2, 3, 90, 91, 180, 181, 270)
    for seed in range(5):
        chosen = diverse(rows, 4, random.Random(seed))
        assert sorted(row // 4 + (row > 5) + (row > 7) for row in chosen) == [0, 1, 2, 4]
    assert sorted(diverse(rows, 9, random.Random(0))) == list(range(9))


def test_nearest_takes_turns() -> None:
    rows = unit(0, 10, 20, 90, 100, 180)
    assert nearest(rows, unit(1), 3) == [0, 1, 2]
    assert nearest(rows, unit(1, 92), 4) == [0, 3, 1, 4]
    assert nearest(rows, unit(1, 1), 2) == [0, 1]
    assert sorted(nearest(rows, unit(1, 179), 6)) == list(range(6))

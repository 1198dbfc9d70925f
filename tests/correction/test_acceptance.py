import numpy as np
import pytest

from steer.correction.acceptance import CAP, accept

KEYS = [f"rec:{row}" for row in range(600)]


def scores(sd: float, rows: int = 600) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sd, rows)


@pytest.mark.parametrize("n", [0, 1, 7, 200, 599, 600, 700])
@pytest.mark.parametrize("sd", [0.0, 0.8, 5.0])
def test_exactly_n_different_rows(n: int, sd: float) -> None:
    rows = accept(scores(sd), n, KEYS, 3).rows
    assert len(set(rows)) == len(rows) == min(n, 600)
    assert list(rows) == sorted(rows)


def test_chances_are_in_proportion_to_the_ratio() -> None:
    """Rows of four weights: 1, 2, 4 and 8, so often that each kind's share can be counted."""
    ratios = np.log(np.repeat([1.0, 2.0, 4.0, 8.0], 150))
    taken = np.zeros(600)
    for seed in range(300):
        took = accept(ratios, 60, KEYS, seed)
        taken[list(took.rows)] += 1
    assert took.exponent == 1 and took.capped == 0
    shares = taken.reshape(4, 150).mean(axis=1) / 300
    assert shares == pytest.approx(60 / 150 * np.array([1, 2, 4, 8]) / 15, rel=0.06)


def test_no_more_than_the_effective_sample_size() -> None:
    exponents = [accept(scores(1.5), n, KEYS, 0).exponent for n in (30, 150, 300, 500, 600)]
    assert exponents[0] == 1 and exponents == sorted(exponents, reverse=True)
    assert exponents[-1] == 0
    for n in (300, 500):
        took = accept(scores(1.5), n, KEYS, 0)
        assert took.effective * 600 == pytest.approx(n, rel=0.02)


def test_one_text_has_no_say_over_all() -> None:
    ratios = np.zeros(600)
    ratios[17] = 50
    took = accept(ratios, 10, KEYS, 0)
    assert took.exponent == 1 and took.capped == pytest.approx(1 / 600, abs=1e-4)
    often = sum(17 in accept(ratios, 10, KEYS, seed).rows for seed in range(300)) / 300
    assert often == pytest.approx(CAP * 10 / 600, abs=0.06)


def test_order_changes_nothing_and_the_seed_does() -> None:
    values, shuffled = scores(1.0), np.random.default_rng(1).permutation(600)
    one = accept(values, 100, KEYS, 5)
    other = accept(values[shuffled], 100, [KEYS[row] for row in shuffled], 5)
    assert {KEYS[row] for row in one.rows} == {KEYS[shuffled[row]] for row in other.rows}
    assert (one.exponent, one.effective) == (other.exponent, other.effective)
    assert accept(values, 100, KEYS, 6).rows != one.rows == accept(values, 100, KEYS, 5).rows


def test_equal_scores_are_drawn_at_random_never_the_first() -> None:
    took = accept(np.zeros(600), 300, KEYS, 0)
    assert took.effective == 1 and took.exponent == 1 and took.capped == 0
    assert 100 < sum(row < 300 for row in took.rows) < 200

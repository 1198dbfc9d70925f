from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, wasserstein_distance

from steer.evaluation import coherence
from steer.evaluation.estimate import draws

SCORES = st.lists(st.sampled_from([-4.0, -3.5, -3.0, -1.25, 0.0]), min_size=12, max_size=12)


def normal(n: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return shift + spread * np.random.default_rng(seed).normal(size=n)


def test_nonsense_by_hand() -> None:
    # 1 of 20 reference texts, the lowest, is the lowest 5%: what is as low as -20 is nonsense.
    reference = -np.arange(1.0, 21)
    scores = np.array([-30, -20.0, -19.9, *[-1.0] * 17])
    share, usual = coherence.nonsense(scores, reference, draws(20, 200, 0, "row"))
    assert (share.value, usual) == (2 / 20, 1 / 20)
    assert share.samples.min() >= 0 and share.samples.max() <= 1
    assert share.estimate.low <= share.value <= share.estimate.high


@pytest.mark.parametrize(("n", "usual"), [(10, 1 / 10), (20, 1 / 20), (30, 2 / 30), (100, 5 / 100)])
def test_real_texts_have_their_usual_share(n: int, usual: float) -> None:
    reference = normal(n, 0)
    share, own = coherence.nonsense(reference, reference, draws(n, 100, 0, "row"))
    assert own == share.value == usual


def test_ties_with_the_threshold_are_nonsense_on_both_sides() -> None:
    reference = np.array([-2.0] * 4 + [-1.0] * 16)
    share, usual = coherence.nonsense(reference, reference, draws(20, 100, 0, "row"))
    assert share.value == usual == 4 / 20


def test_each_sample_of_nonsense_is_that_of_the_texts_drawn() -> None:
    scores, reference = normal(40, 1, -0.5).round(1), normal(40, 0).round(1)
    drawn = draws(40, 50, 3, "row")
    share, _ = coherence.nonsense(scores, reference, drawn)
    for i in range(50):
        real = np.sort(np.repeat(reference, drawn.reference[i]))
        mine = np.repeat(scores, drawn.own[i])
        assert share.samples[i] == pytest.approx((mine <= real[1]).mean())


@given(SCORES, SCORES)
def test_the_distance_is_scipys(scores: list[float], reference: list[float]) -> None:
    one, other = np.array(scores), np.array(reference)
    found = coherence.distance(one, other, draws(12, 100, 0, "row"))
    assert found.value == pytest.approx(wasserstein_distance(one, other))


def slope(scores: np.ndarray, reference: np.ndarray, side: int, place: int) -> float:
    """How the distance moves when one text weighs a little more, or less."""
    found = []
    for more in (1e-6, -1e-6):
        weights = [np.ones(len(each)) for each in (scores, reference)]
        weights[side][place] += more * len(weights[side])
        found.append(wasserstein_distance(scores, reference, *weights))
    return (found[0] - found[1]) / 2e-6


def test_influence_on_the_distance_is_its_derivative() -> None:
    scores, reference = normal(15, 1, -0.4, 1.5), normal(15, 0)
    plain = wasserstein_distance(scores, reference)
    slopes = [np.array([slope(scores, reference, side, i) for i in range(15)]) for side in (0, 1)]
    drawn = draws(15, 200, 0, "row")
    found = coherence.distance(scores, reference, drawn)
    assert found.samples == pytest.approx(drawn.of(plain, *slopes).samples, abs=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_order_has_no_effect(order: int) -> None:
    scores, reference = normal(30, 1), normal(30, 0)
    mixed = np.random.default_rng(order).permutation(30)
    drawn = draws(30, 100, 0, "row")
    assert coherence.distance(scores[mixed], reference[mixed[::-1]], drawn).value == pytest.approx(
        coherence.distance(scores, reference, drawn).value
    )


def test_the_gap_hides_what_the_distance_sees() -> None:
    # Half is noise, half sharpened: the mean is right, and nothing else.
    reference, drawn = normal(400, 0), draws(400, 500, 0, "row")
    scores = np.concatenate([normal(200, 1, -2, 0.3), normal(200, 2, 2, 0.3)])
    assert coherence.gap(scores, reference, drawn).value == pytest.approx(0, abs=0.15)
    assert coherence.distance(scores, reference, drawn).estimate.low > 0.8
    assert coherence.nonsense(scores, reference, drawn)[0].value > 0.3


@pytest.mark.parametrize("shift", [-0.7, 0.7])
def test_likelier_than_real_is_as_far_as_less_likely(shift: float) -> None:
    reference = normal(200, 0)
    found = coherence.distance(reference + shift, reference, draws(200, 100, 0, "row"))
    assert found.value == pytest.approx(0.7)


def test_the_floor_is_the_distance_of_two_sets_of_real_texts() -> None:
    floor = np.mean([coherence.floor(normal(200, seed), 0) for seed in range(10)])
    apart = [
        wasserstein_distance(normal(200, 2 * seed), normal(200, 2 * seed + 1))
        for seed in range(100, 200)
    ]
    assert floor == pytest.approx(np.mean(apart), rel=0.15)


def test_the_floor_falls_with_the_root_of_n() -> None:
    small, large = (
        np.mean([coherence.floor(normal(n, seed), 0) for seed in range(20)]) for n in (50, 800)
    )
    assert small / large == pytest.approx(sqrt(16), rel=0.2)


def coverage(truth: float, find, repeats: int = 150, n: int = 80) -> float:
    """Share of repeats whose 95% interval holds the truth."""
    held = []
    for seed in range(repeats):
        found = find(seed, draws(n, 200, seed, "row")).estimate
        held.append(found.low <= truth <= found.high)
    return float(np.mean(held))


def test_intervals_hold_the_truth() -> None:
    shift, spread = -0.6, 1.3

    def both(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return normal(80, 2 * seed, shift, spread), normal(80, 2 * seed + 1)

    truth = float(norm.cdf((norm.ppf(0.05) - shift) / spread))
    assert coverage(truth, lambda s, d: coherence.nonsense(*both(s), d)[0]) > 0.87
    assert coverage(shift, lambda s, d: coherence.gap(*both(s), d)) > 0.88
    # Of two normal curves: the mean distance of their quantiles.
    quantiles = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    apart = float(np.abs(shift + (spread - 1) * quantiles).mean())
    assert coverage(apart, lambda s, d: coherence.distance(*both(s), d)) > 0.85

import numpy as np
import pytest

from steer.evaluation.estimate import (
    Estimate,
    Sampled,
    combine,
    draws,
    jackknife,
    mean_with_interval,
    mean_with_sd,
    resample_counts,
)


def test_every_bootstrap_sample_has_n_texts() -> None:
    counts = resample_counts(40, 200, seed=3)
    assert counts.shape == (200, 40)
    assert (counts.sum(axis=1) == 40).all()
    assert (counts == resample_counts(40, 200, seed=3)).all()
    assert (counts != resample_counts(40, 200, seed=4)).any()


def test_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = mean_with_interval(values, resample_counts(400, 2000, seed=0))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert found.low < found.value < found.high


def test_interval_of_a_constant_has_no_width() -> None:
    found = mean_with_interval(np.ones(20), resample_counts(20, 100, seed=0))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_mean_and_sd_of_repetitions() -> None:
    assert mean_with_sd([1.0, 3.0], "") == Estimate(2.0, sd=1.0)
    assert mean_with_sd([], "why") == Estimate(None, reason="why")


def test_json_has_the_value_and_what_is_set() -> None:
    assert Estimate(0.0, 0.0, 1.0).to_json() == {"value": 0.0, "low": 0.0, "high": 1.0}
    assert Estimate(None, reason="why").to_json() == {"value": None, "reason": "why"}


def test_means_of_whole_numbers_and_of_yes_and_no() -> None:
    counts = resample_counts(4, 100, seed=0)
    assert mean_with_interval(np.array([0, 1, 1, 7]), counts).value == 9 / 4
    assert mean_with_interval(np.array([True, False, False, False]), counts).value == 1 / 4


def test_resampling_a_mean_by_influence_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=50)
    drawn = draws(50, 300, 1, "row")
    found = drawn.of(values.mean(), values)
    assert found.samples == pytest.approx(drawn.own @ values / 50)
    plain = mean_with_interval(values, drawn.own)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((plain.low, plain.high))


def test_both_sides_move_a_figure() -> None:
    own, reference = np.random.default_rng(0).normal(size=(2, 400))
    drawn = draws(400, 2000, 1, "row")
    found = drawn.of(own.mean() - reference.mean(), own, -reference)
    assert found.samples == pytest.approx((drawn.own @ own - drawn.reference @ reference) / 400)
    assert found.samples.std() == pytest.approx(np.sqrt(2) / 20, rel=0.1)


def test_influence_may_be_of_the_first_texts_only() -> None:
    values = np.random.default_rng(0).normal(size=100)
    found = draws(400, 2000, 1, "row").of(values.mean(), values)
    assert found.samples.mean() == pytest.approx(values.mean(), abs=0.01)
    assert found.samples.std() == pytest.approx(values.std() / 10, rel=0.1)


def test_rows_share_the_draws_of_the_reference_and_no_others() -> None:
    one, other = draws(30, 100, 5, "one"), draws(30, 100, 5, "other")
    assert (one.reference == other.reference).all()
    assert (one.own != other.own).any() and (one.own != one.reference).any()
    assert (one.own == draws(30, 100, 5, "one").own).all()
    assert (one.own != draws(30, 100, 6, "one").own).any()


def test_influence_by_the_jackknife_of_a_mean_is_each_text_less_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=20)
    without = np.array([np.delete(values, i).mean() for i in range(20)])
    assert jackknife(values.mean(), without) == pytest.approx(values - values.mean())


def test_figures_are_combined_sample_by_sample() -> None:
    one, other = Sampled(2.0, np.array([1.0, 2.0, 3.0])), Sampled(4.0, np.array([4.0, 4.0, 8.0]))
    found = combine(lambda a, b: a / b, one, other)
    assert found.value == 0.5
    assert list(found.samples) == [0.25, 0.5, 0.375]


def test_the_interval_of_a_ratio_holds_the_truth() -> None:
    held = []
    for seed in range(150):
        own, reference = np.random.default_rng(seed).exponential(size=(2, 80))
        drawn = draws(80, 200, seed, "row")
        means = own.mean(), reference.mean()
        found = drawn.of(np.log(means[0] / means[1]), own / means[0], -reference / means[1])
        held.append(found.estimate.low <= 0 <= found.estimate.high)
    assert 0.88 < np.mean(held) < 1

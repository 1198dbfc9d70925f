import numpy as np
import pytest

from steer.evaluation.estimate import Estimate, mean_with_interval, mean_with_sd, resample_counts


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

"""The bias with which texts end where the real ones do."""

import numpy as np
import pytest

from steer.models.ending import end_bias


def read(lengths: list[int], hazard: float, last: float | None = None) -> list[np.ndarray]:
    """What an expert says of texts of these lengths, if it would end each at any token with the
    probability `hazard`, and where it does end with `last`."""
    found = [np.full(length + 1, np.log(hazard)) for length in lengths]
    for each in found:
        each[-1] = np.log(hazard if last is None else last)
    return found


def expected(log_probs: list[np.ndarray], first: int, last: int | None) -> float:
    return sum(np.exp(each[first:last]).sum() for each in log_probs)


@pytest.mark.parametrize("number", [12, 60, 400])
def test_an_expert_that_ends_at_any_token_is_held_back_and_then_let_go(number: int) -> None:
    """With the bias about so many ends are expected in each group as there are."""
    rng = np.random.default_rng(0)
    lengths = sorted(rng.integers(300, 600, number).tolist())
    log_probs = read(lengths, 0.005)
    found = end_bias(log_probs)
    assert found[0][0] == 0 and found[1][0] == lengths[0] and found[0][1] < -2 < 0 < found[-1][1]
    bounds = [first for first, _ in found]
    for (first, bias), last in zip(found, [*bounds[1:], None], strict=True):
        ends = sum(first <= length < (last or np.inf) for length in lengths)
        before = expected(log_probs, first, last)
        assert abs(before * np.exp(bias) - ends) <= max(0.6, 0.6 * abs(before - ends))


def test_none_where_texts_end_as_the_expert_has_it() -> None:
    """Chance alone is one in a thousand; texts whose end is sure, and those of one length."""
    rng = np.random.default_rng(0)
    found = [end_bias(read((rng.geometric(0.02, 60) - 1).tolist(), 0.02)) for _ in range(100)]
    assert sum(map(bool, found)) <= 1
    assert end_bias(read([20, 30, 40] * 30, 1e-6, last=0.99)) == ()
    assert end_bias(read([25] * 50, 1e-6, last=0.95)) == ()
    assert end_bias(read([3], 0.2)) == ()


def test_few_texts_say_little() -> None:
    """Two ends more than expected are no news."""
    assert end_bias(read([60, 70, 80, 90], 0.01)) == ()
    assert end_bias(read([600, 700, 800, 900], 0.01)) != ()


def test_a_text_that_cannot_end_where_it_does() -> None:
    found = dict(end_bias(read([50] * 10, 1e-12, last=1e-12)))
    assert found[50] == pytest.approx(np.log(10.5 / 0.5), abs=1e-3)

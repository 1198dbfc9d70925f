"""The bias with which texts end where the real ones do."""

import numpy as np
import pytest

from steer.config import EndBias
from steer.models.ending import end_bias


def read(lengths: list[int], hazard: float, last: float | None = None) -> list[np.ndarray]:
    """What an expert says of texts of these lengths, if it would end each at any token with the
    probability `hazard`, and where it does end with `last`."""
    found = [np.full(length + 1, np.log(hazard)) for length in lengths]
    for each in found:
        each[-1] = np.log(hazard if last is None else last)
    return found


def deciles(hazard: float, bias: EndBias) -> list[int]:
    """Tokens by which every tenth text has ended, if each ends with this probability at a token and
    the bias is added to its log odds."""
    added = np.zeros(3000)
    for first, each in bias:
        added[first:] = each
    odds = hazard / (1 - hazard) * np.exp(added)
    ended = 1 - np.cumprod(1 / (1 + odds))
    return np.searchsorted(ended, np.arange(1, 10) / 10).tolist()


@pytest.mark.parametrize("number", [12, 60, 400])
def test_an_expert_that_ends_at_any_token_is_held_back_and_then_let_go(number: int) -> None:
    """With the bias its texts have the real ones' lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(300, 600, number).tolist()
    found = end_bias(read(lengths, 0.005))
    assert found[0][0] == 0 and found[1][0] == min(lengths) and found[0][1] < -2 < 0 < found[-1][1]
    real = np.percentile(lengths, range(10, 100, 10)).tolist()
    assert deciles(0.005, found) == pytest.approx(real, rel=0.05)
    assert deciles(0.005, ()) != pytest.approx(real, rel=0.25)


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

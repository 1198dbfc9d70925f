import math

import pytest
import torch

from steer.config import Sampling
from steer.errors import SteerError
from steer.sampling import Sampler, uniforms


def test_draws_follow_the_distribution():
    probs = torch.tensor([0.5, 0.3, 0.0, 0.2])
    draws = uniforms(3, 20_000)
    tokens = Sampler(Sampling())(probs.log().expand(20_000, -1), draws)
    shares = torch.bincount(tokens, minlength=4) / 20_000
    assert shares.tolist() == pytest.approx(probs.tolist(), abs=0.015)
    assert shares[2] == 0


def test_a_record_draws_the_same_whatever_is_beside_it():
    scores = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    draws = uniforms(0, 6)
    sampler = Sampler(Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.01))
    together = sampler(scores, draws)
    alone = [sampler(scores[i : i + 1], draws[i : i + 1]).item() for i in range(6)]
    assert together.tolist() == alone


def test_uniforms_depend_on_the_seed_and_only_on_it():
    assert torch.equal(uniforms(5, 8)[:4], uniforms(5, 4))
    assert not torch.equal(uniforms(5, 8), uniforms(6, 8))
    assert ((uniforms(7, 10_000) >= 0) & (uniforms(7, 10_000) < 1)).all()


@pytest.mark.parametrize("draw", [0.0, 0.5, math.nextafter(1.0, 0.0)])
def test_masked_tokens_are_never_drawn(draw):
    scores = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]])
    token = Sampler(Sampling())(scores, torch.tensor([draw], dtype=torch.float64)).item()
    assert token in (1, 2)


def test_top_k_and_greedy():
    scores = torch.arange(10.0).expand(500, -1)
    assert set(Sampler(Sampling(top_k=3))(scores, uniforms(0, 500)).tolist()) == {7, 8, 9}
    assert set(Sampler(Sampling(temperature=0))(scores, uniforms(0, 500)).tolist()) == {9}


def test_a_large_vocabulary_is_drawn_like_one_cumulative_sum():
    probs = torch.rand(1, 1000, generator=torch.Generator().manual_seed(2))
    probs[0, 100:700] = 0
    draws = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    tokens = Sampler(Sampling())(probs.log().expand(4000, -1), draws)
    ends = (probs / probs.sum()).double().cumsum(-1)[0]
    expected = torch.searchsorted(ends, draws, right=True)
    assert (tokens - expected).abs().max() <= 1  # a draw on the border of two tokens
    assert (tokens != expected).sum() <= 4


def test_a_row_without_a_token_is_an_error():
    with pytest.raises(SteerError, match="every token"):
        Sampler(Sampling())(torch.full((2, 5), -math.inf), uniforms(0, 2))

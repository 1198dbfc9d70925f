import math

import pytest
import torch
from transformers import TypicalLogitsWarper

from steer.config import Sampling
from steer.engines.sampling import Sampler, uniforms
from steer.errors import SteerError


def sample(scores, draws, counts=None, **settings):
    """Tokens of rows that have `counts` tokens so far, none when not given."""
    counts = torch.zeros(len(draws), dtype=torch.long) if counts is None else counts
    return Sampler(Sampling(**settings))(scores, draws, counts)


def test_draws_follow_the_distribution():
    probs = torch.tensor([0.5, 0.3, 0.0, 0.2])
    draws = uniforms(3, 20_000)
    tokens = sample(probs.log().expand(20_000, -1), draws)
    shares = torch.bincount(tokens, minlength=4) / 20_000
    assert shares.tolist() == pytest.approx(probs.tolist(), abs=0.015)
    assert shares[2] == 0


def test_a_record_draws_the_same_whatever_is_beside_it():
    scores = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    draws = uniforms(0, 6)
    cuts = {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.95}
    together = sample(scores, draws, **cuts)
    alone = [sample(scores[i : i + 1], draws[i : i + 1], **cuts).item() for i in range(6)]
    assert together.tolist() == alone


def test_uniforms_depend_on_the_seed_and_only_on_it():
    assert torch.equal(uniforms(5, 8)[:4], uniforms(5, 4))
    assert not torch.equal(uniforms(5, 8), uniforms(6, 8))
    assert ((uniforms(7, 10_000) >= 0) & (uniforms(7, 10_000) < 1)).all()


@pytest.mark.parametrize("draw", [0.0, 0.5, math.nextafter(1.0, 0.0)])
def test_masked_tokens_are_never_drawn(draw):
    scores = torch.tensor([[-math.inf, 0.0, 0.0, -math.inf]])
    token = sample(scores, torch.tensor([draw], dtype=torch.float64)).item()
    assert token in (1, 2)


def test_top_k_and_greedy():
    scores = torch.arange(10.0).expand(500, -1)
    assert set(sample(scores, uniforms(0, 500), top_k=3).tolist()) == {7, 8, 9}
    assert set(sample(scores, uniforms(0, 500), temperature=0).tolist()) == {9}


def test_a_large_vocabulary_is_drawn_like_one_cumulative_sum():
    probs = torch.rand(1, 1000, generator=torch.Generator().manual_seed(2))
    probs[0, 100:700] = 0
    draws = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    tokens = sample(probs.log().expand(4000, -1), draws)
    ends = (probs / probs.sum()).double().cumsum(-1)[0]
    expected = torch.searchsorted(ends, draws, right=True)
    assert (tokens - expected).abs().max() <= 1  # a draw on the border of two tokens
    assert (tokens != expected).sum() <= 4


def test_a_row_without_a_token_is_an_error():
    with pytest.raises(SteerError, match="every token"):
        sample(torch.full((2, 5), -math.inf), uniforms(0, 2))


def test_typical_sampling_is_that_of_transformers():
    scores = torch.randn(1, 60, generator=torch.Generator().manual_seed(4))
    scores[0, 7] = 4  # far likelier than the entropy says
    left = TypicalLogitsWarper(0.4)(None, scores)
    drawn = sample(scores.expand(20_000, -1), uniforms(1, 20_000), typical_p=0.4)
    shares = torch.bincount(drawn, minlength=60) / 20_000
    assert shares.tolist() == pytest.approx(left.softmax(-1)[0].tolist(), abs=0.015)
    assert set(drawn.unique().tolist()) == set(torch.isfinite(left[0]).nonzero().flatten().tolist())
    assert shares[7] == 0  # what no other cut does


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.5, "top_k": 2}])
def test_an_opening_is_drawn_from_the_scores_as_they_are(settings):
    scores = torch.randn(400, 30, generator=torch.Generator().manual_seed(5))
    draws, counts = uniforms(2, 400), torch.arange(400) % 4
    drawn = sample(scores, draws, counts, opening=2, **settings)
    early = counts < 2
    assert torch.equal(drawn[early], sample(scores, draws)[early])
    assert torch.equal(drawn[~early], sample(scores, draws, **settings)[~early])
    assert not torch.equal(drawn[early], sample(scores, draws, **settings)[early])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 4, "penalty": 0.6}, "beams 4 and penalty 0.6: .* exclude each other"),
        ({"beams": 4, "temperature": 0.7}, "temperature 0.7 with beams 4"),
        ({"beams": 2, "top_k": 10}, "set top_k to 0"),
        ({"penalty": 0.6, "top_p": 0.9}, "top_p 0.9 with penalty 0.6"),
        ({"penalty": 0.6, "min_p": 0.1}, "set min_p to 0"),
        ({"penalty": 0.6, "typical_p": 0.5}, "set typical_p to 1"),
        ({"penalty": 1.5}, "penalty is 1.5"),
    ],
)
def test_a_search_draws_no_tokens(settings, message):
    with pytest.raises(SteerError, match=message):
        Sampling(**settings)

import math

import pytest
import torch

from steer.config import Guidance
from steer.guidance import combine, steer_streams

INF = math.inf


def log_probs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).unsqueeze(1).log()  # (streams, 1 row, vocab)


def combined(probs: torch.Tensor, weights: list[float], alpha: float = 0.0) -> torch.Tensor:
    return combine(probs, torch.tensor(weights).unsqueeze(1), torch.tensor([alpha]))[0]


@pytest.mark.parametrize(("weights", "total"), [("published", 1 - 0.3), ("balanced", 1.0)])
def test_weights_sum_as_documented(weights, total):
    streams = steer_streams(Guidance(gamma=0.2, eta=0.3, weights=weights), "p", "panel")
    assert sum(s.weight for s in streams) == pytest.approx(total)
    assert [s.name for s in streams] == ["expert", "base", "negative"]
    assert [s.adapter for s in streams] == [True, False, True]
    assert [s.context for s in streams] == ["p", "p", "panel"]


def test_streams_of_weight_zero_are_left_out():
    def names(gamma: float, eta: float) -> list[str]:
        return [s.name for s in steer_streams(Guidance(gamma=gamma, eta=eta), "p", "x")]

    assert names(0, 0) == ["expert"]
    assert names(0.1, 0) == ["expert", "base"]
    assert names(0, 1) == ["expert", "negative"]


def test_combine_by_hand():
    probs = log_probs([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.6, 0.2, 0.2])
    scores = combined(probs, [1.5, -0.2, -0.3])
    expected = [
        1.5 * math.log(0.5) - 0.2 * math.log(0.25) - 0.3 * math.log(0.6),
        1.5 * math.log(0.25) - 0.2 * math.log(0.5) - 0.3 * math.log(0.2),
        1.5 * math.log(0.25) - 0.2 * math.log(0.25) - 0.3 * math.log(0.2),
    ]
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_plausibility_masks_below_alpha_of_the_experts_best_only():
    probs = log_probs([0.5, 0.3, 0.15, 0.05], [0.01, 0.01, 0.01, 0.97])
    scores = combined(probs, [2.0, -1.0], alpha=0.3)
    assert scores.isneginf().tolist() == [False, False, False, True]
    assert not combined(probs, [2.0, -1.0], alpha=0.0).isneginf().any()


@pytest.mark.parametrize("weights", [[1.5, -0.5], [0.5, 0.5]])
def test_a_token_ruled_out_by_any_stream_is_masked(weights):
    probs = log_probs([0.5, 0.5, 0.0], [1.0, 0.0, 0.0])
    scores = combined(probs, weights)
    assert scores.isneginf().tolist() == [False, True, True]
    assert not scores.isnan().any()


def test_a_stream_of_weight_zero_has_no_effect():
    probs = log_probs([0.5, 0.5], [1.0, 0.0])
    assert torch.equal(combined(probs, [1.0, 0.0]), combined(probs[:1], [1.0]))


def test_rows_are_independent():
    generator = torch.Generator().manual_seed(0)
    probs = torch.log_softmax(torch.randn(3, 5, 11, generator=generator), dim=-1)
    weights = torch.randn(3, 5, generator=generator)
    alpha = torch.tensor([0.0, 0.1, 0.5, 0.9, 0.0])
    together = combine(probs, weights, alpha)
    for row in range(5):
        one = slice(row, row + 1)
        assert torch.equal(together[one], combine(probs[:, one], weights[:, one], alpha[one]))

import math

import pytest
import torch

from steer.config import Guidance
from steer.errors import SteerError
from steer.guidance import Contexts, adapt, build_streams, combine, steer_streams

INF = math.inf
NONE = torch.zeros(2)


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


ASKED = Contexts("p", negative=("n1", "n2"), positive="q", others=("o1", "o2"))


def weights_of(guidance: Guidance) -> list[tuple[str, str, float]]:
    streams = build_streams(guidance, ASKED)
    return [(s.name, s.context, round(s.weight, 9)) for s in streams]


def test_what_gamma_moves_away_from():
    def contrast(kind: str) -> list[tuple[str, str, float]]:
        return weights_of(Guidance(gamma=0.5, eta=0, contrast=kind))

    assert contrast("base") == [("expert", "p", 1.5), ("base", "p", -0.5)]
    assert contrast("prompt") == [("expert", "p", 1.5), ("contrast", "", -0.5)]
    others = [("contrast", "o1", -0.25), ("contrast", "o2", -0.25)]
    assert contrast("labels") == [("expert", "p", 1.5), *others]
    # base + gamma * (expert - anti-expert), and the weights sum to 1
    assert contrast("dexperts") == [("expert", "p", 0.5), ("base", "p", 1.0), *others]
    adapters = [s.adapter for s in build_streams(Guidance(contrast="dexperts"), ASKED)]
    assert adapters == [True, False, True, True, True, True]


def test_positive_panels_and_several_negative_ones():
    found = build_streams(Guidance(gamma=0.2, eta=0.4, rho=0.3), ASKED)
    assert [s.name for s in found] == ["expert", "base", "negative", "negative", "positive"]
    assert [s.weight for s in found] == pytest.approx([1.3, -0.2, -0.2, -0.2, 0.3])
    assert [s.pooled for s in found] == [False, False, True, True, False]
    published = build_streams(Guidance(gamma=0.2, eta=0.4, rho=0.3, weights="published"), ASKED)
    assert published[0].weight == pytest.approx(0.9)
    with pytest.raises(SteerError, match="the expert's own weight"):
        Guidance(gamma=0, contrast="dexperts")


def test_few_shot_prompting_reads_the_panel_without_the_expert():
    (found,) = build_streams(Guidance(gamma=0, eta=0, few_shot=True), ASKED)
    assert (found.context, found.adapter, found.weight) == ("q", False, 1.0)


def test_pooled_streams_are_the_least_favourable_of_them():
    """The element-wise minimum of the scores that each negative alone would give."""
    generator = torch.Generator().manual_seed(3)
    probs = torch.log_softmax(torch.randn(4, 2, 9, generator=generator), dim=-1)
    weights = torch.tensor([1.6, -0.2, -0.1, -0.3]).unsqueeze(1).expand(-1, 2)
    pooled = torch.tensor([False, False, True, True]).unsqueeze(1).expand(-1, 2)
    alone = [
        combine(probs[[0, 1, one]], torch.tensor([1.6, -0.2, -0.4])[:, None].expand(-1, 2), NONE)
        for one in (2, 3)
    ]
    torch.testing.assert_close(combine(probs, weights, NONE, pooled), torch.minimum(*alone))


def test_pooled_streams_rule_out_only_together():
    probs = log_probs([0.5, 0.5], [0.0, 1.0], [1.0, 0.0])
    weights, pooled = torch.tensor([[1.4], [-0.2], [-0.2]]), torch.tensor([[False], [True], [True]])
    assert combine(probs, weights, torch.zeros(1), pooled).isfinite().all()
    assert not combine(probs, weights, torch.zeros(1)).isfinite().any()


def test_adaptive_strength():
    far = log_probs([0.5, 0.5, 0.0], [0.0, 0.0, 1.0])
    weights = torch.tensor([[1.5], [-0.5]])
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert torch.equal(adapt(far, weights, no), weights)
    torch.testing.assert_close(adapt(far, weights, yes), weights)  # nothing in common: 1 bit
    same = far[:1].expand(2, -1, -1)
    torch.testing.assert_close(adapt(same, weights, yes), torch.tensor([[1.0], [0.0]]))
    # By hand: p = (1, 0), q = (1/2, 1/2), middle = (3/4, 1/4).
    near = log_probs([1.0, 0.0], [0.5, 0.5])
    bits = (math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) / 2
    expected = torch.tensor([[1 + 0.5 * bits], [-0.5 * bits]])
    torch.testing.assert_close(adapt(near, weights, yes), expected)


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


def test_an_expert_of_weight_0_still_says_what_is_plausible() -> None:
    guidance = Guidance(contrast="dexperts", gamma=0.5, rho=0.5, eta=0, alpha=0.5)
    streams = build_streams(guidance, Contexts("Q:", positive="A", others=("other",)))
    assert [stream.name for stream in streams] == ["expert", "base", "contrast", "positive"]
    assert streams[0].weight == 0
    expert, base = torch.tensor([0.6, 0.3, 0.1]).log(), torch.tensor([0.2, 0.4, 0.4]).log()
    log_probs = torch.stack([expert, base])[:, None]
    scores = combine(log_probs, torch.tensor([[0.0], [1.0]]), torch.tensor([0.5]))
    torch.testing.assert_close(scores, torch.tensor([[0.2, 0.4, 0.0]]).log())


def test_an_expert_of_weight_0_that_nothing_asks_is_not_run() -> None:
    guidance = Guidance(contrast="dexperts", gamma=0.5, rho=0.5, eta=0, alpha=0)
    streams = build_streams(guidance, Contexts("Q:", positive="A", others=("other",)))
    assert streams[0].name == "base"

"""What guidance does to one token: the candidates for it, under each stream and under their sum."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.guidance import adapt, combine

MASS = 0.95
"""Share of a distribution that the candidates hold."""

MOST = 24
"""Candidates at the most: a flat distribution would fill a page."""


@dataclass(frozen=True)
class Candidate:
    """A token that might come next: its log-probability (nats) under each stream, in their order,
    and under the guided distribution. A token that is not `kept` was cut, by the plausibility
    constraint, or because a stream or the record's shape rules it out; its `final` is -inf."""

    token: int
    streams: tuple[float, ...]
    final: float

    @property
    def kept(self) -> bool:
        """Whether it could be drawn."""
        return self.final > -math.inf


@dataclass(frozen=True)
class Setting:
    """One row's weights (streams,), which of its streams are `pooled`, bool (streams,), alpha, and
    whether the weights adapt; see `steer.guidance.combine`. `allowed`, bool (vocab,), says which
    tokens the record's shape allows; None: all."""

    weights: Tensor
    pooled: Tensor
    alpha: float
    adaptive: bool
    allowed: Tensor | None = None


def guided(logits: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
    """Computes one row's log-probabilities, those of the streams (streams, vocab) and the guided
    ones (vocab,), over the whole vocabulary, fp32. `logits` (streams, vocab)."""
    log_probs = logits.log_softmax(dim=-1, dtype=torch.float32).unsqueeze(1)
    held = log_probs
    if setting.allowed is not None:
        held = log_probs.masked_fill(~setting.allowed, -math.inf)
    weights, alpha = setting.weights.unsqueeze(-1), log_probs.new_tensor([setting.alpha])
    if setting.adaptive:
        whole = held.log_softmax(dim=-1)
        weights = adapt(whole, weights, weights.new_ones(1, dtype=torch.bool))
    pooled = setting.pooled.unsqueeze(-1) if setting.pooled.any() else None
    return log_probs[:, 0], combine(held, weights, alpha, pooled)[0].log_softmax(dim=-1)


def candidates(log_probs: Tensor, final: Tensor, chosen: int) -> tuple[Candidate, ...]:
    """Lists the tokens that hold `MASS` of the guided distribution or of the first stream's, and
    the `chosen` one, likeliest first; what was cut comes last, as likely as it was under the first
    stream. Parameters are those that `guided` gives."""
    wanted = dict.fromkeys([chosen, *_holding(final), *_holding(log_probs[0])])
    tokens = torch.tensor([*wanted], device=final.device)
    found = [
        Candidate(token, tuple(each), last)
        for token, each, last in zip(
            tokens.tolist(), log_probs[:, tokens].T.tolist(), final[tokens].tolist(), strict=True
        )
    ]
    ranked = sorted(found, key=lambda each: (each.final, each.streams[0]), reverse=True)
    return (*ranked[:MOST], *(each for each in ranked[MOST:] if each.token == chosen))


def _holding(log_probs: Tensor) -> Sequence[int]:
    """The likeliest tokens that together hold `MASS`, or the `MOST` likeliest."""
    best = log_probs.topk(min(MOST, len(log_probs)))
    probs = best.values.exp()
    before = probs.cumsum(dim=0) - probs
    found: list[int] = best.indices[(before < MASS) & (probs > 0)].tolist()
    return found

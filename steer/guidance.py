"""Guided decoding as one formula: a weighted sum of log-probabilities over streams.

    score(w) = sum over streams s of  weight_s * log p_s(w | context_s, text so far)

STEER (arXiv 2308.07645, equations 4 to 6), contrastive decoding, classifier-free guidance and
DExperts are all lists of streams. This module is pure tensor maths and knows no model library.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.config import Guidance


@dataclass(frozen=True)
class Stream:
    """One model reading one context, with one weight.

    `adapter` says whether the expert's adapter is on; `context` is the text read before the
    record's own tokens. Requests that share (adapter, context) share its key-value cache.
    """

    name: str
    weight: float
    adapter: bool
    context: str


def steer_streams(guidance: Guidance, prompt: str, panel: str) -> tuple[Stream, ...]:
    """The streams of STEER. Those of weight 0 are left out: they cost time and 0 * -inf is NaN.

    Balanced weights sum to 1 and so leave the temperature alone; published ones sum to 1 - eta.
    The expert always comes first: the plausibility constraint reads it.
    """
    gamma, eta = guidance.gamma, guidance.eta
    expert = 1 + gamma + (eta if guidance.weights == "balanced" else 0)
    streams = (
        Stream("expert", expert, adapter=True, context=prompt),
        Stream("base", -gamma, adapter=False, context=prompt),
        Stream("negative", -eta, adapter=True, context=panel),
    )
    return tuple(stream for stream in streams if stream.weight != 0)


def combine(log_probs: Tensor, weights: Tensor, alpha: Tensor) -> Tensor:
    """Scores of every token.

    Parameters are fp32 `log_probs` (streams, rows, vocab), `weights` (streams, rows) and `alpha`
    (rows); stream 0 is the expert. Returns fp32 scores (rows, vocab). The tokens may be some of
    the vocabulary only, if the expert's best is among them.

    A token is masked (-inf) when its expert probability is below alpha times the largest
    (Li et al. 2022, arXiv 2210.15097, equation 3), or when any stream with a weight rules it
    out (-inf): a difference of infinities says nothing. A stream of weight 0 has no effect.
    """
    used = weights != 0
    if not used.all():
        log_probs = log_probs.masked_fill(~used.unsqueeze(-1), 0.0)
    scores = log_probs[0] * weights[0].unsqueeze(-1)
    for log_prob, weight in zip(log_probs[1:], weights[1:].unsqueeze(-1), strict=True):
        scores.addcmul_(log_prob, weight)
    # An infinity in any term leaves -inf, inf or NaN; all three mean ruled out.
    scores.masked_fill_(~(scores < math.inf), -math.inf)
    if alpha.any():
        expert = log_probs[0]
        floor = expert.amax(dim=-1) + torch.where(alpha > 0, alpha.log(), -math.inf)
        scores.masked_fill_(expert < floor.unsqueeze(-1), -math.inf)
    return scores

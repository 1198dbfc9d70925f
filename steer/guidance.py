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
class Shown:
    """Texts that a stream reads: each under `prompt` and ended, as the expert read it in training,
    then the prompt again. Texts with prompts of their own have them in `own`, one each. Without a
    prompt, the texts joined with a space.

    A special token that a text spells is plain characters, unlike one in a prompt.
    """

    texts: tuple[str, ...]
    prompt: str | None = None
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stream:
    """One model reading one context, with one weight.

    `adapter` says whether the expert's adapter is on; `context` is the prompt, or the texts, that
    are read before the record's own tokens. Requests that share (adapter, context) share its
    key-value cache. The `pooled` streams of a request count as one, which finds every token as
    likely as the one of them that finds it likeliest; its weight is the sum of theirs.
    """

    name: str
    weight: float
    adapter: bool
    context: str | Shown
    pooled: bool = False


@dataclass(frozen=True)
class Contexts:
    """Texts that the streams of a record read: its prompt, the negative panels, the positive panel,
    and the prompts for the other labels."""

    prompt: str
    negative: tuple[str | Shown, ...] = ()
    positive: str | Shown = ""
    others: tuple[str, ...] = ()


def steer_streams(guidance: Guidance, prompt: str, panel: str | Shown) -> tuple[Stream, ...]:
    """Builds the streams of STEER for one negative panel; see `build_streams`."""
    return build_streams(guidance, Contexts(prompt, (panel,)))


def build_streams(guidance: Guidance, contexts: Contexts) -> tuple[Stream, ...]:
    """Builds the streams of a record. Streams of weight 0 are left out: they cost time and 0 * -inf
    is NaN.

    Balanced weights sum to 1 and so leave the temperature alone; published ones sum to 1 - eta.
    The expert always comes first: the plausibility constraint reads it. What gamma contrasts it
    with is, by `guidance.contrast`:

    - base: the base model (STEER; Li et al. 2022, arXiv 2210.15097; proxy-tuning with strength
      1 + gamma, Liu et al. 2024, arXiv 2401.08565)
    - prompt: the expert without a prompt (Sanchez et al. 2023, arXiv 2306.17806, equation 7, with
      strength 1 + gamma)
    - labels: the expert asked for each other label, in equal parts (after CorrSynth, arXiv
      2411.08553)
    - dexperts: base + gamma * (expert - the expert asked for the other labels) (Liu et al. 2021,
      arXiv 2105.03023, equation 2); these weights sum to 1

    Few-shot prompting is one stream without the expert: the base model reads the positive panel.
    """
    if guidance.few_shot:
        return (Stream("positive", 1.0, False, contexts.positive),)
    negative, positive = -guidance.eta, guidance.rho
    panels = contexts.negative or ("",)
    contrasts = _contrasts(guidance, contexts)
    expert = -guidance.eta if guidance.weights == "published" else 0.0
    expert += 1 - positive - negative - sum(stream.weight for stream in contrasts)
    pooled = len(panels) > 1
    others = (
        *contrasts,
        *(Stream("negative", negative / len(panels), True, each, pooled) for each in panels),
        Stream("positive", positive, True, contexts.positive),
    )
    # Even of weight 0 (dexperts with rho as large as gamma) it says what is plausible.
    needed = expert != 0 or guidance.alpha > 0 or guidance.adaptive
    first = (Stream("expert", expert, True, contexts.prompt),) if needed else ()
    return (*first, *(stream for stream in others if stream.weight != 0))


def _contrasts(guidance: Guidance, contexts: Contexts) -> list[Stream]:
    gamma, others = guidance.gamma, contexts.others
    if guidance.contrast == "base":
        return [Stream("base", -gamma, False, contexts.prompt)]
    if guidance.contrast == "prompt":
        return [Stream("contrast", -gamma, True, "")]
    labels = [Stream("contrast", -gamma / len(others), True, other) for other in others]
    if guidance.contrast == "labels":
        return labels
    return [Stream("base", 1.0, False, contexts.prompt), *labels]


def combine(
    log_probs: Tensor, weights: Tensor, alpha: Tensor, pooled: Tensor | None = None
) -> Tensor:
    """Computes the score of every token.

    Parameters are fp32 `log_probs` (streams, rows, vocab), `weights` (streams, rows), `alpha`
    (rows) and, where there are any, which streams are `pooled`, bool (streams, rows); stream 0 is
    the expert and never pooled. Returns fp32 scores (rows, vocab). The tokens may be some of the
    vocabulary only, if the expert's best is among them.

    A token is masked (-inf) when its expert probability is below alpha times the largest
    (Li et al. 2022, arXiv 2210.15097, equation 3), or when any stream with a weight rules it
    out (-inf), of pooled ones all: a difference of infinities says nothing. A stream of weight 0
    has no effect, but that the expert's still says what is plausible.
    """
    if pooled is not None:
        log_probs, weights = _pool(log_probs, weights, pooled)
    expert, used = log_probs[0], weights != 0
    if not used.all():
        log_probs = log_probs.masked_fill(~used.unsqueeze(-1), 0.0)
    scores = log_probs[0] * weights[0].unsqueeze(-1)
    for log_prob, weight in zip(log_probs[1:], weights[1:].unsqueeze(-1), strict=True):
        scores.addcmul_(log_prob, weight)
    # An infinity in any term leaves -inf, inf or NaN; all three mean ruled out.
    scores.nan_to_num_(-math.inf, -math.inf, -math.inf)
    if alpha.any():
        floor = expert.amax(dim=-1) + torch.where(alpha > 0, alpha.log(), -math.inf)
        scores.masked_fill_(expert < floor.unsqueeze(-1), -math.inf)
    return scores


def _pool(log_probs: Tensor, weights: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
    """Adds the pooled streams as one more stream, with weight 0 where they were."""
    likeliest = log_probs.masked_fill(~pooled.unsqueeze(-1), -math.inf).amax(dim=0, keepdim=True)
    total = (weights * pooled).sum(dim=0, keepdim=True)
    return torch.cat([log_probs, likeliest]), torch.cat([weights * ~pooled, total])


def adapt(log_probs: Tensor, weights: Tensor, adaptive: Tensor) -> Tensor:
    """Computes weights (streams, rows) of one step for the rows that are `adaptive`, bool (rows):
    each stream's weight is scaled by the Jensen-Shannon divergence (base 2, in [0, 1]) of its
    distribution from the expert's. The expert's own weight keeps the sum (after AdaCAD, Wang et al.
    2024, arXiv 2409.07394, equation 4). `log_probs` (streams, rows, vocab) must cover the whole
    vocabulary."""
    scaled = weights * _divergences(log_probs)
    scaled[0] = weights.sum(dim=0) - scaled[1:].sum(dim=0)
    return torch.where(adaptive, scaled, weights)


def _divergences(log_probs: Tensor) -> Tensor:
    """Computes the Jensen-Shannon divergence of each stream from stream 0 in bits, (streams,
    rows)."""
    expert, middle = log_probs[:1], torch.logaddexp(log_probs, log_probs[:1]) - math.log(2)
    total = _divergence(log_probs, middle) + _divergence(expert, middle)
    return (total / (2 * math.log(2))).clamp(0, 1)


def _divergence(log_probs: Tensor, others: Tensor) -> Tensor:
    """Computes the Kullback-Leibler divergence in nats; a token of no probability adds 0, not 0 *
    inf."""
    return (log_probs.exp() * (log_probs - others).nan_to_num(0.0, 0.0, 0.0)).sum(dim=-1)

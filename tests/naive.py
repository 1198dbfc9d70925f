"""The method as the formula says it, with nothing clever: every stream rereads its whole context
and everything written so far at every step, one row at a time. What fast paths are tested on."""

import math

import torch
from torch import Tensor

from steer.engines.interface import Request


def stream_log_probs(model, tokenizer, adapter: bool, context: str, tokens: list[int]) -> Tensor:
    """Log-probabilities (vocab,) of the next token for one stream; `model` is a PeftModel, or a
    plain model when there is no adapter."""
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    start = end if begin is None else begin
    ids = (tokenizer(context).input_ids or [start]) + tokens
    with torch.no_grad():
        if adapter or not hasattr(model, "disable_adapter"):
            logits = model(torch.tensor([ids])).logits[0, -1]
        else:
            with model.disable_adapter():
                logits = model(torch.tensor([ids])).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def scores(model, tokenizer, request: Request, tokens: list[int]) -> Tensor:
    """Guided scores (vocab,) of the token after `tokens`."""
    streams = [
        stream_log_probs(model, tokenizer, s.adapter, s.context, tokens) for s in request.streams
    ]
    weights = adapted(streams, request) if request.adaptive else [s.weight for s in request.streams]
    pooled = [s.pooled for s in request.streams]
    expert = streams[0].exp()
    result = torch.empty_like(expert)
    for token in range(len(expert)):
        terms = [log_probs[token].item() for log_probs in streams]
        together = [term for term, pool in zip(terms, pooled, strict=True) if pool]
        terms = [max(together) if pool else term for term, pool in zip(terms, pooled, strict=True)]
        if -math.inf in terms or expert[token] < request.alpha * expert.max():
            result[token] = -math.inf
        else:
            result[token] = sum(w * term for w, term in zip(weights, terms, strict=True))
    return result


def adapted(streams: list[Tensor], request: Request) -> list[float]:
    """The weights, scaled by the divergence of each stream's distribution from the expert's."""
    total = sum(s.weight for s in request.streams)
    others = [
        s.weight * divergence(streams[0].exp(), log_probs.exp())
        for s, log_probs in zip(request.streams[1:], streams[1:], strict=True)
    ]
    return [total - sum(others), *others]


def divergence(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon, in bits."""
    middle = (p + q) / 2
    bits = [torch.where(x > 0, x * (x / middle).log2(), 0.0).sum() for x in (p, q)]
    return float(sum(bits)) / 2

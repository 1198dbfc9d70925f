"""The method as the formula says it, with nothing clever: every stream rereads its whole context
and everything written so far at every step, one row at a time. What fast paths are tested on."""

import math

import torch
from torch import Tensor

from steer.engines.interface import Request
from steer.guidance import Shown


def context_ids(tokenizer, context: str | Shown) -> list[int]:
    """What a stream reads before the record."""
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    if isinstance(context, str):
        return tokenizer(context).input_ids or [end if begin is None else begin]
    if context.prompt is None:
        return tokenizer(" ".join(context.texts), split_special_tokens=True).input_ids
    ids = tokenizer(context.prompt).input_ids
    for text in context.texts:
        ids += tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        ids += [end, *tokenizer(context.prompt, add_special_tokens=False).input_ids]
    return ids


def stream_log_probs(
    model, tokenizer, adapter: bool, context: str | Shown, tokens: list[int]
) -> Tensor:
    """Log-probabilities (vocab,) of the next token for one stream, of the ids up to the last that
    the tokenizer has a token for; `model` is a PeftModel, or a plain model when there is no
    adapter."""
    ids = context_ids(tokenizer, context) + tokens
    known = set(tokenizer.get_vocab().values())
    with torch.no_grad():
        if adapter or not hasattr(model, "disable_adapter"):
            logits = model(torch.tensor([ids])).logits[0, -1]
        else:
            with model.disable_adapter():
                logits = model(torch.tensor([ids])).logits[0, -1]
    logits = logits.float()[: max(known) + 1]
    logits[[number for number in range(len(logits)) if number not in known]] = -math.inf
    return torch.log_softmax(logits, dim=-1)


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

"""The method as the formula says it, with nothing clever: every stream rereads its whole context
and everything written so far at every step, one row at a time. What fast paths are tested on."""

import math

import torch
from torch import Tensor

from steer.engines.interface import Request


def stream_log_probs(model, tokenizer, adapter: bool, context: str, tokens: list[int]) -> Tensor:
    """Log-probabilities (vocab,) of the next token for one stream; `model` is a PeftModel, or a
    plain model when there is no adapter."""
    ids = tokenizer(context).input_ids + tokens
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
    expert = streams[0].exp()
    result = torch.empty_like(expert)
    for token in range(len(expert)):
        terms = [log_probs[token].item() for log_probs in streams]
        if -math.inf in terms or expert[token] < request.alpha * expert.max():
            result[token] = -math.inf
        else:
            result[token] = sum(
                s.weight * term for s, term in zip(request.streams, terms, strict=True)
            )
    return result

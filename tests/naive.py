"""The method as the formula says it, with nothing clever: every stream rereads its whole context
and everything written so far at every step, one row at a time. What fast paths are tested on."""

import json
import math
from functools import cache

import regex
import torch
from torch import Tensor

from steer.engines.interface import Request
from steer.guidance import Shown
from steer.models.tokenizer import full_tokenizer


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


def biased(log_probs: Tensor, request: Request, written: int, ends: list[int]) -> Tensor:
    """Log-probabilities (vocab,) of a stream after so many tokens, with the request's bias on the
    ends."""
    due = [bias for first, bias in request.end_bias if first <= written]
    logits = log_probs.clone()
    logits[[end for end in ends if end < len(logits)]] += due[-1] if due else 0.0
    return logits.log_softmax(dim=-1)


def scores(
    model, tokenizer, request: Request, tokens: list[int], ends: list[int] | None = None
) -> Tensor:
    """Guided scores (vocab,) of the token after `tokens`. What the request's shape does not allow
    is ruled out first, and a token is plausible beside the others that are allowed."""
    ends = [tokenizer.eos_token_id] if ends is None else ends
    streams = [
        stream_log_probs(model, tokenizer, s.adapter, s.context, tokens) for s in request.streams
    ]
    streams = [biased(each, request, len(tokens), ends) for each in streams]
    if request.shape:
        out = torch.tensor([not may for may in allowed(tokenizer, request.shape, tokens)])
        out = torch.nn.functional.pad(out, (0, len(streams[0]) - len(out)), value=True)
        streams = [log_probs.masked_fill(out, -math.inf) for log_probs in streams]
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
    """The weights, scaled by the divergence of each stream's distribution from the expert's; of
    what is allowed, where a shape rules some tokens out."""
    streams = [log_probs.log_softmax(dim=-1) for log_probs in streams]
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


def allowed(tokenizer, shape, tokens: list[int]) -> list[bool]:
    """Whether each id may follow `tokens`: with it they are the beginning of a text of the shape,
    tried one by one; the end may come where they are a whole one. Where only one text can follow,
    it is written in the tokenizer's own tokens. Shapes of the kind "grammar" are not known here."""
    pattern, pieces = regex.compile(as_pattern(shape)), token_bytes(tokenizer)
    so_far = b"".join(pieces[token] or b"" for token in tokens)
    found = [
        piece is not None and bool(pattern.fullmatch(so_far + piece, partial=True))
        for piece in pieces
    ]
    found[tokenizer.eos_token_id] = bool(pattern.fullmatch(so_far))
    if len({piece[0] for piece, may in zip(pieces, found, strict=True) if may and piece}) == 1:
        forced = tokenizer(only_text(pattern, so_far).decode("utf-8", "ignore")).input_ids
        if len(forced) > 1:
            found = [number == forced[0] for number in range(len(found))]
    return found


def only_text(pattern, so_far: bytes) -> bytes:
    """The longest text that must follow `so_far`."""
    text = b""
    while not pattern.fullmatch(so_far + text):
        can = (bytes([byte]) for byte in range(256))
        found = [each for each in can if pattern.fullmatch(so_far + text + each, partial=True)]
        if len(found) != 1:
            break
        text += found[0]
    return text


def as_pattern(shape) -> bytes:
    """The shape as a regular expression over bytes."""
    if shape.kind == "regex":
        body = shape.source
    elif shape.kind == "choices":
        body = "|".join(map(regex.escape, json.loads(shape.source)))
    else:
        body = of_schema(json.loads(shape.source))
    return f"{shape.lead}(?:{body})".encode("latin-1")


def of_schema(schema: dict) -> str:
    """JSON of the few schemas that the tests have, in its one way to be written."""
    if "enum" in schema:
        return "|".join(regex.escape(json.dumps(value)) for value in schema["enum"])
    kind = schema["type"]
    if isinstance(kind, list):
        return "|".join(f"(?:{of_schema({'type': each})})" for each in kind)
    if kind == "object":
        pairs = (
            f"{json.dumps(name)}: (?:{of_schema(each)})"
            for name, each in schema["properties"].items()
        )
        return r"\{" + ", ".join(pairs) + r"\}"
    if kind == "array":
        return rf"\[(?:(?:{(item := of_schema(schema['items']))})(?:, (?:{item}))*)?\]"
    return {"string": STRING, "integer": "-?(?:0|[1-9][0-9]*)", "boolean": "true|false",
            "null": "null"}[kind]  # fmt: skip


@cache
def token_bytes(tokenizer) -> list[bytes | None]:
    """The bytes of each token of a byte-level tokenizer; None for special ones."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    letters |= {chr(256 + place): byte for place, byte in enumerate(others)}
    tokenizer = full_tokenizer(tokenizer)
    special = set(tokenizer.all_special_ids)
    return [
        None if number in special else bytes(letters[letter] for letter in token)
        for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    ]


_NEXT = "[\x80-\xbf]"
STRING = (
    r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\bfnrt]|\\u00(?:0[0-7bef]|1[0-9a-f]|7f)|'
    f"[\xc2-\xdf]{_NEXT}|\xe0[\xa0-\xbf]{_NEXT}|[\xe1-\xec\xee\xef]{_NEXT}{{2}}|"
    f"\xed[\x80-\x9f]{_NEXT}|\xf0[\x90-\xbf]{_NEXT}{{2}}|[\xf1-\xf3]{_NEXT}{{3}}|"
    f'\xf4[\x80-\x8f]{_NEXT}{{2}})*"'
)
"""JSON of a text, over the bytes of UTF-8."""

"""Token ids of contexts and tokens that end a text, as every engine reads them; its dtype and
threads."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.engines.interface import Arithmetic
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import Tokenizer, encode_prompt, encode_start, encode_texts


def encode(tokenizer: Tokenizer, context: str | Shown) -> list[int]:
    """Encodes a context, its texts as fitting encodes them, to at least one token id."""
    if isinstance(context, str):
        return encode_prompt(tokenizer, context)
    if context.prompt is None:
        return encode_start(tokenizer, " ".join(context.texts))
    first, *others = (*(context.own or (context.prompt,) * len(context.texts)), context.prompt)
    ids = encode_prompt(tokenizer, first)
    again = {each: tokenizer(each, add_special_tokens=False).input_ids for each in set(others)}
    for text, prompt in zip(encode_texts(tokenizer, context.texts), others, strict=True):
        ids += [*text, tokenizer.eos_token_id, *again[prompt]]  # nothing begins anew
    return ids


@dataclass(frozen=True)
class Known:
    """The ids that a tokenizer has tokens for: those below `size` that are not `holes`. Models
    often have logits for more ids, which fill a matrix up and mean nothing."""

    size: int
    holes: tuple[int, ...] = ()

    def among(self, logits: Tensor) -> Tensor:
        """A view of `logits` (..., vocab) that ends with the last known id; in the holes they are
        set to -inf."""
        logits = logits[..., : self.size]
        if self.holes:
            logits[..., list(self.holes)] = -math.inf
        return logits


def known_ids(tokenizer: Tokenizer, vocab: int) -> Known:
    """Finds the known ids below `vocab`, the number of ids that the model has logits for."""
    ids = {number for number in tokenizer.get_vocab().values() if number < vocab}
    size = max(ids) + 1
    return Known(size, tuple(sorted(set(range(size)) - ids)))


def arithmetic(dtype: str, device: str) -> Arithmetic:
    """Arithmetic of a loaded engine whose weights have `dtype`, on a `device` such as "cpu"."""
    threads = torch.get_num_threads() if device == "cpu" else None
    return Arithmetic(dtype.removeprefix("torch."), threads)


def end_tokens(tokenizer: Tokenizer, declared: int | Iterable[int] | None) -> list[int]:
    """Lists the tokens that end a text, in order: those the model declares and the tokenizer's
    own."""
    ends = {declared} if isinstance(declared, int) else set(declared or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return sorted(ends)


def require_room(longest: int, new_tokens: int, most: int) -> None:
    """Raises `SteerError` when a context of `longest` tokens and a record of `new_tokens` do not
    fit into the `most` tokens that the model reads."""
    if longest + new_tokens > most:
        raise SteerError(
            f"the longest context has {longest} tokens and a record may have {new_tokens}, but the "
            f"model reads {most}; use a smaller panel, a shorter prompt or fewer new tokens"
        )

"""What every engine reads, how it ends and how it computes: token ids of contexts, tokens that end
a text, dtype and threads."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedTokenizerBase

from steer.engines.interface import Arithmetic
from steer.errors import SteerError
from steer.models.base import encode_prompt


def encode(tokenizer: PreTrainedTokenizerBase, context: str) -> list[int]:
    """Token ids of a context; a context without any is the start of text."""
    start = tokenizer.bos_token_id
    return encode_prompt(tokenizer, context) or [tokenizer.eos_token_id if start is None else start]


def arithmetic(dtype: torch.dtype, device: str) -> Arithmetic:
    """That of a loaded engine whose weights have `dtype`, on a `device` such as "cpu"."""
    threads = torch.get_num_threads() if device == "cpu" else None
    return Arithmetic(str(dtype).removeprefix("torch."), threads)


def end_tokens(
    tokenizer: PreTrainedTokenizerBase, declared: int | Iterable[int] | None
) -> list[int]:
    """The tokens that end a text, in order: those the model declares and the tokenizer's own."""
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

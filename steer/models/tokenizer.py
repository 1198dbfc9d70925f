"""Tokenizers by the `tokenizers` library alone.

Transformers reads a tokenizer's many files in as many ways, and takes seconds to import. What it
made of them is kept on disk, under what was in the files, and read from there.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import tokenizers

from steer.errors import SteerError
from steer.files import write_atomic
from steer.models.base import Tokenizer, load_tokenizer, model_folder
from steer.models.cache import tokenizers_folder
from steer.models.fingerprints import sampled_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMAT = 1
_FILES = (".json", ".txt", ".model", ".tiktoken")
"""Kinds of file that say something about a tokenizer."""
_TOKENS = ("bos_token", "eos_token", "bos_token_id", "eos_token_id")
# What Transformers' class does with the library's tokenizer, and its subclasses may do otherwise.
_METHODS = ("__call__", "_encode_plus", "_convert_encoding", "decode", "_decode", "get_vocab",
            "__len__")  # fmt: skip
_SAMPLES = (
    "a",
    " Two  spaces,\n\na line's end and \t a tab ",
    "Größe 12.345, 東京 \N{GRINNING FACE} don't",
)


@dataclass(frozen=True)
class Ids:
    """Token ids, of one text or of each of several."""

    input_ids: Any


class KeptTokenizer:
    """A tokenizer that was kept, of the model `base`; what it lacks, `full` has. May be used by
    several threads."""

    def __init__(self, base: str, made: tokenizers.Tokenizer, tokens: dict[str, Any]) -> None:
        made.no_truncation()
        made.no_padding()
        self._base, self._made, self._lock = base, made, Lock()
        self.bos_token, self.eos_token, self.bos_token_id, self.eos_token_id = (
            tokens[name] for name in _TOKENS
        )

    @cached_property
    def full(self) -> "PreTrainedTokenizerBase":
        """The tokenizer of Transformers, which takes seconds to load."""
        return load_tokenizer(self._base)

    @property
    def chat_template(self) -> Any:
        """The template that `apply_chat_template` writes chats in, if there is one."""
        return self.full.chat_template

    def apply_chat_template(self, *given: Any, **named: Any) -> Any:
        """Writes a chat as a text, as Transformers does."""
        return self.full.apply_chat_template(*given, **named)

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        split_special_tokens: bool = False,
    ) -> Ids:
        """Encodes a text, or several."""
        texts = [text] if isinstance(text, str) else list(text)
        with self._lock:
            self._made.encode_special_tokens = split_special_tokens
            found = self._made.encode_batch(texts, add_special_tokens=add_special_tokens)
        ids = [each.ids for each in found]
        return Ids(ids[0] if isinstance(text, str) else ids)

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return self._made.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def get_vocab(self) -> dict[str, int]:
        """Ids by token."""
        return self._made.get_vocab(with_added_tokens=True)

    def __len__(self) -> int:
        return self._made.get_vocab_size(with_added_tokens=True)


def open_tokenizer(base: str) -> Tokenizer:
    """The tokenizer of a model as it was kept, and it is kept now if it was not; Transformers' own
    where that does more than the library. Raises `SteerError` as `load_tokenizer` does."""
    place = _place(model_folder(base))
    with suppress(Exception):  # the library names no kind; whatever is wrong, it is made anew
        return _made(base, place.read_text("utf-8"))
    full = load_tokenizer(base)
    text = _text(base, full)
    if text is None:
        return full
    with suppress(OSError, SteerError):  # a full disk, say: it is made anew the next time
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, text.encode())
    return _made(base, text)


def full_tokenizer(tokenizer: Tokenizer) -> Any:
    """The tokenizer of Transformers that `tokenizer` is, or was kept of."""
    return tokenizer.full if isinstance(tokenizer, KeptTokenizer) else tokenizer


def _place(folder: Path) -> Path:
    """File of the tokenizer in `folder`, named by all that makes it what it is."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for library in ("transformers", "tokenizers"):
        digest.update(importlib.metadata.version(library).encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in _FILES and file.is_file():
            digest.update(file.name.encode() + sampled_digest(file))
    return tokenizers_folder() / f"{digest.hexdigest()[:32]}.json"


def _made(base: str, text: str) -> KeptTokenizer:
    """Makes one of what was kept: a line of its tokens, and what the library wrote."""
    tokens, _, made = text.partition("\n")
    return KeptTokenizer(base, tokenizers.Tokenizer.from_str(made), json.loads(tokens))


def _text(base: str, full: "PreTrainedTokenizerBase") -> str | None:
    """What is kept of a tokenizer that does no more than the library's; None for another, or where
    what was kept is seen to do something else."""
    from transformers import PreTrainedTokenizerFast

    own, theirs = type(full), PreTrainedTokenizerFast
    if not isinstance(full, theirs) or full.split_special_tokens:
        return None
    if any(getattr(own, name) is not getattr(theirs, name) for name in _METHODS):
        return None
    with suppress(Exception):  # parts that are written in Python cannot be written down
        tokens = json.dumps({name: getattr(full, name) for name in _TOKENS})
        text = f"{tokens}\n{full.backend_tokenizer.to_str()}"
        return text if _alike(_made(base, text), full) else None
    return None


def _alike(kept: KeptTokenizer, full: "PreTrainedTokenizerBase") -> bool:
    """Whether both do the same with some texts, which spell the special tokens too."""
    texts = [*_SAMPLES, " ".join(("So", *map(str, full.all_special_tokens), "it ends."))]
    for settings in (
        {},
        {"split_special_tokens": True},
        {"add_special_tokens": False, "split_special_tokens": True},
        {"add_special_tokens": False},
    ):
        ids = full(texts, **settings).input_ids
        if kept(texts, **settings).input_ids != ids:
            return False
        for skips in (True, False):
            spelled = [full.decode(each, skip_special_tokens=skips) for each in ids]
            if [kept.decode(each, skip_special_tokens=skips) for each in ids] != spelled:
                return False
    return kept.get_vocab() == full.get_vocab() and len(kept) == len(full)

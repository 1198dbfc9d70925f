"""How varied a set of texts is. All figures fall with size: compare sets of equal size."""

import gzip
from collections.abc import Sequence
from math import nan, prod

import numpy as np

from steer.metrics.words import ngrams, words

_ORDERS = (2, 3, 4)


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct word n-grams of the whole set over all of them: the "normalised n-grams" of
    arXiv 2308.07645. Runs across two texts do not count, so the order of texts has no effect.
    NaN when no text has `n` words."""
    grams = [gram for text in texts for gram in ngrams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else nan


def distinct_product(texts: Sequence[str]) -> float:
    """Product of `distinct` for n = 2, 3, 4 over the whole set ("diversity" of arXiv 2308.07645,
    after Su et al. 2022, arXiv 2202.06417). NaN when no text has four words."""
    return prod(distinct(texts, n) for n in _ORDERS)


def repetitions(texts: Sequence[str]) -> np.ndarray:
    """How much each text repeats itself: 1 minus the product of its own distinct n-grams for
    n = 2, 3, 4, shape (texts,). 0 for a text that is too short to repeat anything."""
    return np.array([_repetition(words(text)) for text in texts])


def _repetition(sequence: list[str]) -> float:
    rates = (_distinct_rate(list(ngrams(sequence, n))) for n in _ORDERS)
    return 1 - prod(rates)


def _distinct_rate(grams: list[tuple[str, ...]]) -> float:
    return len(set(grams)) / len(grams) if grams else 1.0


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes of the set over its gzip size (Shaib et al. 2024, arXiv 2403.00553): higher is more
    repetitive. Texts are sorted first, so that their order has no effect and repeats lie within
    gzip's 32 KiB window."""
    data = "\n".join(sorted(texts)).encode(errors="surrogatepass")
    return len(data) / len(gzip.compress(data, compresslevel=9, mtime=0))

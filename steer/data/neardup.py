"""Near duplicates: texts whose character 5-grams overlap by a Jaccard index of 0.8 or more."""

import hashlib
import random
import zlib
from functools import lru_cache

import numpy as np
from datasketch import MinHash

from steer.data.postings import Postings
from steer.data.words import fold
from steer.errors import SteerError

GRAM = 5
PERMUTATIONS = 128
MISS_RATE = 0.002
_EMPTY = MinHash(PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
_BITS = random.Random(1)
# Odd factors: what differs in one row of a band always has another sum.
_FACTORS = np.array([_BITS.getrandbits(64) | 1 for _ in range(PERMUTATIONS)], dtype=np.uint64)


def shingles(text: str) -> frozenset[str]:
    """Cuts the character 5-grams of the folded text; a shorter text is its only one."""
    plain = fold(text)
    return frozenset(plain[i : i + GRAM] for i in range(max(1, len(plain) - GRAM + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index: size of the intersection over size of the union."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


class NearIndex:
    """Finds the text added before that is nearest, if its Jaccard index reaches `threshold`.

    Candidates come from MinHash signatures in a locality-sensitive index; each is then verified
    exactly, so nothing below the threshold is ever found and a pair right at it is missed with
    a probability under 0.2%. The time of a look-up hardly grows with the texts added, which are
    kept by reference. The same additions give the same answers in every process. Raises
    `SteerError` for a threshold that is not above 0 and up to 1.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0 < threshold <= 1:
            raise SteerError(f"threshold is {threshold}: it must be above 0 and at most 1")
        self.threshold = threshold
        self._bands, self._rows = _bands(threshold)
        self._near, self._equal = Postings(self._bands), Postings(1)
        self._keys: list[str] = []
        self._texts: list[str] = []

    def add(self, key: str, text: str) -> None:
        """Adds `text` under `key`. Of equal texts the first one added is kept."""
        plain = fold(text)
        if self._row(plain) is None:
            self._near.add(self._band_keys(plain), len(self._texts))
            self._equal.add(_text_key(plain), len(self._texts))
            self._keys.append(key)
            self._texts.append(text)

    def find_equal(self, text: str) -> str | None:
        """Finds the key of the text that is equal once folded; None if none."""
        row = self._row(fold(text))
        return None if row is None else self._keys[row]

    def find(self, text: str) -> str | None:
        """Finds the key of the equal or else most similar text, the one added first among those
        equally similar; None if none reaches the threshold."""
        plain = fold(text)
        if (row := self._row(plain)) is not None:
            return self._keys[row]
        grams, best, nearest = shingles(plain), 0.0, None
        for candidate in sorted(self._near.find(self._band_keys(plain))):
            similarity = jaccard(grams, shingles(self._texts[candidate]))
            if similarity >= self.threshold and similarity > best:
                best, nearest = similarity, self._keys[candidate]
        return nearest

    def _row(self, plain: str) -> int | None:
        candidates = self._equal.find(_text_key(plain))
        return next((row for row in candidates if fold(self._texts[row]) == plain), None)

    def _band_keys(self, plain: str) -> np.ndarray:
        """Computes a number for each band, equal where all the band's rows of the signatures
        are."""
        rows = _signature(plain).hashvalues[: self._bands * self._rows]
        factors = _FACTORS[: len(rows)].reshape(self._bands, self._rows)
        return (rows.reshape(factors.shape).astype(np.uint64) * factors).sum(axis=1)


def _text_key(plain: str) -> np.ndarray:
    digest = hashlib.blake2b(plain.encode(errors="surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digest, dtype=np.uint64)


# A text is looked up and then added: its signature is computed once.
@lru_cache(maxsize=1)
def _signature(text: str) -> MinHash:
    signature = _EMPTY.copy()
    signature.update_batch([gram.encode(errors="surrogatepass") for gram in shingles(text)])
    return signature


def _bands(threshold: float) -> tuple[int, int]:
    """Chooses the number of bands, and of rows a band: as many rows as the miss rate at the
    threshold allows, for few false candidates (Leskovec et al., Mining of Massive Datasets, section
    3.4.2)."""
    rows = 1
    while rows < PERMUTATIONS // 2 and _misses(threshold, rows + 1) <= MISS_RATE:
        rows += 1
    return PERMUTATIONS // rows, rows


def _misses(similarity: float, rows: int) -> float:
    """Share of pairs of that similarity that are in no band together."""
    return (1 - similarity**rows) ** (PERMUTATIONS // rows)

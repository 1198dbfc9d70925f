"""Near duplicates: texts whose character 5-grams overlap by a Jaccard index of 0.8 or more."""

import hashlib
import random
import zlib
from functools import lru_cache

import numpy as np

from steer.data.postings import Postings
from steer.data.sketches import Rarest, Sketches
from steer.data.words import fold
from steer.errors import SteerError

GRAM = 5
PERMUTATIONS = 128
MISS_RATE = 0.002
CROWD = 32
"""Texts that share a part of a signature, and are all candidates; the next are not."""

_HALF = np.uint64(32)
_AT_ONCE = 1024  # shingles hashed at a time: a MB


def _draw(seed: int) -> np.ndarray:
    """Draws odd numbers, uint64 (permutations,)."""
    bits = random.Random(seed)
    return np.array([bits.getrandbits(64) | 1 for _ in range(PERMUTATIONS)], dtype=np.uint64)


# Odd factors: what differs in one row of a band always has another sum.
_FACTORS, _TIMES, _PLUS = _draw(1), _draw(2), _draw(3)


def shingles(text: str) -> frozenset[bytes]:
    """Cuts the character 5-grams of the folded text, each in UTF-8; a shorter text is its only
    one."""
    return _grams(fold(text))


def jaccard(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """Jaccard index: size of the intersection over size of the union."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


class NearIndex:
    """Finds the text added before that is nearest, if its Jaccard index reaches `threshold`.

    Candidates come from MinHash signatures in a locality-sensitive index; each is then verified
    exactly, so nothing below the threshold is ever found and a pair right at it is missed with
    a probability under 0.2%. Sketches of the texts spare most of the work, and change no answer:
    those that are surely unlike are not verified, and where very many texts share a part of a
    signature, as those with a template do, they are found by their rarest shingles instead. So the
    time of a look-up hardly grows with the texts added, which are kept by reference. The same
    additions give the same answers in every process. Raises `SteerError` for a threshold that is
    not above 0 and up to 1.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0 < threshold <= 1:
            raise SteerError(f"threshold is {threshold}: it must be above 0 and at most 1")
        self.threshold = threshold
        self._bands, self._rows = _bands(threshold)
        self._near, self._equal = Postings(self._bands, CROWD), Postings(1)
        self._sketches, self._rarest = Sketches(), Rarest(threshold)
        self._keys: list[str] = []
        self._texts: list[str] = []

    def add(self, key: str, text: str) -> None:
        """Adds `text` under `key`. Of equal texts the first one added is kept."""
        plain = fold(text)
        if self._row(plain) is None:
            bands, hashes, row = self._band_keys(plain), _cut(plain)[1], len(self._texts)
            if self._near.closed(bands):
                self._rarest.add(hashes, row)
            self._near.add(bands, row)
            self._equal.add(_text_key(plain), row)
            self._sketches.add(hashes)
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
        return max(self._similar(plain), default=(0.0, 0, None))[2]

    def find_all(self, text: str) -> list[str]:
        """Finds the keys of all texts that reach the threshold, those equal too, as added."""
        return [key for _, _, key in self._similar(fold(text))]

    def _similar(self, plain: str) -> list[tuple[float, int, str]]:
        """Lists similarity, minus the row (of equally similar ones the first is the greatest), and
        key of the texts that reach the threshold."""
        bands = self._band_keys(plain)
        rows, closed = self._near.find(bands), self._near.closed(bands)
        if not rows and not closed:
            return []
        grams, hashes = _cut(plain)
        crowd = self._rarest.find(hashes) - rows if closed else set()
        found = []
        for row in self._sketches.near(rows | crowd, hashes, self.threshold):
            similarity = jaccard(grams, shingles(self._texts[row]))
            if similarity >= self.threshold and (row not in crowd or self._share_band(bands, row)):
                found.append((similarity, -row, self._keys[row]))
        return found

    def _share_band(self, bands: np.ndarray, row: int) -> bool:
        return bool((self._band_keys(fold(self._texts[row])) == bands).any())

    def _row(self, plain: str) -> int | None:
        candidates = self._equal.find(_text_key(plain))
        return next((row for row in candidates if fold(self._texts[row]) == plain), None)

    def _band_keys(self, plain: str) -> np.ndarray:
        """Computes a number for each band, equal where all the band's rows of the signatures
        are."""
        rows = signature(plain)[: self._bands * self._rows]
        factors = _FACTORS[: len(rows)].reshape(self._bands, self._rows)
        return (rows.reshape(factors.shape) * factors).sum(axis=1)


def _grams(plain: str) -> frozenset[bytes]:
    starts = range(max(1, len(plain) - GRAM + 1))
    if plain.isascii():  # so that each character is a byte
        encoded = plain.encode()
        return frozenset([encoded[i : i + GRAM] for i in starts])
    return frozenset([plain[i : i + GRAM].encode(errors="surrogatepass") for i in starts])


# A text is looked up and then added: it is cut once.
@lru_cache(maxsize=1)
def _cut(plain: str) -> tuple[frozenset[bytes], np.ndarray]:
    """Cuts a folded text into its shingles, and hashes them, uint64 (shingles,)."""
    grams = _grams(plain)
    return grams, np.array(list(map(zlib.crc32, grams)), dtype=np.uint64)


def _text_key(plain: str) -> np.ndarray:
    digest = hashlib.blake2b(plain.encode(errors="surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digest, dtype=np.uint64)


# A kB each. Measures look up the same few thousand texts again and again.
@lru_cache(maxsize=8192)
def signature(plain: str) -> np.ndarray:
    """Computes the MinHash signature of a folded text (Broder 1997), uint64 (permutations,): the
    least of its shingles' hashes by each of the functions x -> (a x + b) mod 2**64 div 2**32
    (multiply-shift, Dietzfelbinger 1996, doi:10.1007/3-540-60922-9_46)."""
    hashes = _cut(plain)[1]
    parts = (hashes[i : i + _AT_ONCE] for i in range(0, len(hashes), _AT_ONCE))
    least = [(_TIMES[:, None] * part + _PLUS[:, None]).min(axis=1) for part in parts]
    return np.min(least, axis=0) >> _HALF


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

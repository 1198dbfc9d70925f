"""Near duplicates: texts whose character 5-grams overlap by a Jaccard index of 0.8 or more."""

import zlib
from functools import lru_cache

from datasketch import MinHash, MinHashLSH

from steer.errors import SteerError

GRAM = 5
PERMUTATIONS = 128
MISS_RATE = 0.002
_EMPTY = MinHash(PERMUTATIONS, seed=1, hashfunc=zlib.crc32)


def normalise(text: str) -> str:
    """The text with case folded and every run of white space as one space."""
    return " ".join(text.casefold().split())


def shingles(text: str) -> frozenset[str]:
    """The character 5-grams of the normalised text; a shorter text is its only one."""
    plain = normalise(text)
    return frozenset(plain[i : i + GRAM] for i in range(max(1, len(plain) - GRAM + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Size of the intersection over size of the union."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


class NearIndex:
    """Finds the text added before that is nearest, if its Jaccard index reaches `threshold`.

    Candidates come from MinHash signatures in a locality-sensitive index; each is then verified
    exactly, so nothing below the threshold is ever found and a pair right at it is missed with
    a probability under 0.2%. The time of a look-up does not grow with the texts added. The same
    additions give the same answers in every process. Raises `SteerError` for a threshold that is
    not above 0 and up to 1.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0 < threshold <= 1:
            raise SteerError(f"threshold is {threshold}: it must be above 0 and at most 1")
        self.threshold = threshold
        self._lsh = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(threshold))
        self._keys: dict[str, str] = {}
        self._texts: list[str] = []

    def add(self, key: str, text: str) -> None:
        """Adds `text` under `key`. Of equal texts the first one added is kept."""
        plain = normalise(text)
        if plain not in self._keys:
            self._lsh.insert(len(self._texts), _signature(plain), check_duplication=False)
            self._keys[plain] = key
            self._texts.append(plain)

    def find_equal(self, text: str) -> str | None:
        """The key of the text that is equal once normalised; None if none."""
        return self._keys.get(normalise(text))

    def find(self, text: str) -> str | None:
        """The key of the equal or else most similar text, the one added first among those
        equally similar; None if none reaches the threshold."""
        plain = normalise(text)
        if plain in self._keys:
            return self._keys[plain]
        grams, best, found = shingles(plain), 0.0, None
        # Sorted: candidates come in an order that differs between processes.
        for candidate in sorted(self._lsh.query(_signature(plain))):
            similarity = jaccard(grams, shingles(self._texts[candidate]))
            if similarity >= self.threshold and similarity > best:
                best, found = similarity, self._keys[self._texts[candidate]]
        return found


# A text is looked up and then added: its signature is computed once.
@lru_cache(maxsize=1)
def _signature(text: str) -> MinHash:
    signature = _EMPTY.copy()
    signature.update_batch([gram.encode(errors="surrogatepass") for gram in shingles(text)])
    return signature


def _bands(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: as many rows as the miss rate at the threshold allows, for few
    false candidates (Leskovec et al., Mining of Massive Datasets, section 3.4.2)."""
    rows = 1
    while rows < PERMUTATIONS // 2 and _misses(threshold, rows + 1) <= MISS_RATE:
        rows += 1
    return PERMUTATIONS // rows, rows


def _misses(similarity: float, rows: int) -> float:
    """The share of pairs of that similarity that are in no band together."""
    return (1 - similarity**rows) ** (PERMUTATIONS // rows)

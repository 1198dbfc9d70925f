"""Which sets of shingles can be near, told without the sets; both answers err on the safe side."""

from math import ceil

import numpy as np

from steer.data.postings import Postings

BITS = 192
SLOTS = 2**20
_BITS, _SLOTS = np.uint64(BITS), np.uint64(SLOTS)
_MARGIN = 1e-9
"""Of rounding: a pair right at the threshold is never left out."""


class Sketches:
    """Sets of shingles by number, from 0 in the order they are added: 32 bytes each.

    A sketch has `BITS` bits, of which every shingle flips one, and the size of the set. Shingles
    that both sets have flip the same bits. So the sets differ by at least as many shingles as the
    sketches by bits (the bitmap filter of Sandes et al. 2020, arXiv 1711.07295, with parities).
    """

    def __init__(self) -> None:
        self._rows = bytearray()

    def add(self, hashes: np.ndarray) -> None:
        """Adds a set by the hashes of its shingles, uint64 (size,)."""
        self._rows += _sketch(hashes)

    def near(self, numbers: set[int], hashes: np.ndarray, threshold: float) -> list[int]:
        """Lists, in order, those of `numbers` whose Jaccard index with the set of `hashes` may be
        `threshold` or more."""
        chosen, own = np.array(sorted(numbers), dtype=np.int64), _words(_sketch(hashes))
        rows = _words(self._rows).reshape(-1, len(own))[chosen]
        bits = np.bitwise_count(rows[:, :-1] ^ own[:-1]).sum(axis=1, dtype=np.int64)
        size, sizes = len(hashes), rows[:, -1].view(np.int64)
        # What only one has, of what both have together: their Jaccard index is (all - apart) / (all
        # + apart), and falls as more is apart.
        apart, all = np.maximum(bits, np.abs(sizes - size)), sizes + size
        return chosen[all - apart >= (threshold - _MARGIN) * (all + apart)].tolist()


class Rarest:
    """Numbers of sets, filed under their rarest shingles: sets of texts that share a template meet
    only where they share more than the template.

    A set that reaches `threshold` with another lacks few of its shingles. Filed under one more than
    it may lack, it is found by the other's (prefix filtering, Chaudhuri et al. 2006,
    doi:10.1109/ICDE.2006.9). Takes 12 bytes for each of these: some 270 for a text of 110
    characters at 0.8.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._postings = Postings(16)
        self._seen = np.zeros(SLOTS, dtype=np.uint32)

    def add(self, hashes: np.ndarray, number: int) -> None:
        """Files `number` under the rarest so far of `hashes`, uint64 (size,)."""
        slots, size = hashes % _SLOTS, len(hashes)
        rarest = self._seen[slots].argsort(kind="stable")
        self._seen[slots] += 1
        needed = size - ceil((self._threshold - _MARGIN) * size) + 1
        self._postings.add(hashes[rarest[:needed]], number)

    def find(self, hashes: np.ndarray) -> set[int]:
        """Finds the numbers of all sets that reach the threshold with that of `hashes`, and of some
        that do not."""
        return self._postings.find(hashes)


def _sketch(hashes: np.ndarray) -> bytes:
    """Packs the bits and the size into 32 bytes."""
    flips = np.bincount((hashes % _BITS).view(np.int64), minlength=BITS)
    return np.packbits(flips & 1).tobytes() + len(hashes).to_bytes(8, "little")


def _words(packed: bytes | bytearray) -> np.ndarray:
    """Reads sketches as 64-bit numbers, the last of each four its size."""
    return np.frombuffer(packed, dtype="<u8")

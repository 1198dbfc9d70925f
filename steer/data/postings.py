"""Postings: numbers filed under keys, very many of them in little memory."""

from collections import defaultdict

import numpy as np

BUFFER = 4096
"""Numbers that are filed in a dictionary before they are sorted."""

LARGEST = 2**20
"""Numbers in the largest sorted run: merging two takes a few times their memory."""


class Postings:
    """Numbers by 64-bit keys, `width` keys to a number: 12 bytes a key.

    A log-structured merge: the latest are in a dictionary, earlier ones in sorted runs, and runs of
    like size are merged. A dictionary of sets, as locality-sensitive hashing is usually kept in,
    takes some thirty times the memory (docs/scaling.md).

    A key that has more than `limit` numbers closes: nothing more is filed under it.
    """

    def __init__(self, width: int, limit: int = 2**32) -> None:
        self._width, self._limit = width, limit
        self._closed: set[int] = set()
        self._latest: defaultdict[int, list[int]] = defaultdict(list)
        self._filed = 0
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, keys: np.ndarray, number: int) -> None:
        """Files `number`, below 2**32, under those of its `width` keys (uint64) that are open."""
        for key in keys.tolist():
            if key not in self._closed:
                (filed := self._latest[key]).append(number)
                if len(filed) > self._limit:
                    self._closed.add(key)
        self._filed += 1
        if self._filed == BUFFER:
            self._sort()

    def closed(self, keys: np.ndarray) -> bool:
        """Whether any of `keys` is closed: numbers that have it may not be found by it."""
        return not self._closed.isdisjoint(keys.tolist())

    def find(self, keys: np.ndarray) -> set[int]:
        """Finds the numbers filed under any of `keys`."""
        matches = {number for key in keys.tolist() for number in self._latest.get(key, ())}
        for filed, numbers in self._runs:
            first = filed.searchsorted(keys)
            # Most keys are in no run: a second search finds the ends of those that are.
            hits = first[filed[np.minimum(first, len(filed) - 1)] == keys]
            ends = filed.searchsorted(filed[hits], side="right") if len(hits) else hits
            for begin, end in zip(hits.tolist(), ends.tolist(), strict=True):
                matches.update(numbers[begin:end].tolist())
        return matches

    def _sort(self) -> None:
        pairs = [(key, number) for key, numbers in self._latest.items() for number in numbers]
        self._latest.clear()
        self._filed = 0
        if not pairs:
            return
        keys = np.array([key for key, _ in pairs], dtype=np.uint64)
        self._runs.append(_sorted(keys, np.array([number for _, number in pairs], np.uint32)))
        while len(self._runs) > 1 and self._alike(*self._runs[-2:]):
            (one, ones), (two, twos) = self._runs.pop(), self._runs.pop()
            self._runs.append(_sorted(np.concatenate([two, one]), np.concatenate([twos, ones])))
        self._close(self._runs[-1][0])

    def _close(self, filed: np.ndarray) -> None:
        """Closes the keys that are more than `limit` times in a sorted run."""
        again = filed[self._limit :]
        self._closed.update(again[again == filed[: len(again)]].tolist())

    def _alike(
        self, older: tuple[np.ndarray, np.ndarray], newer: tuple[np.ndarray, np.ndarray]
    ) -> bool:
        """Whether two runs are to be merged: of one size, and not yet the largest."""
        return len(older[0]) <= len(newer[0]) < LARGEST * self._width


def _sorted(keys: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = keys.argsort(kind="stable")
    return keys[order], numbers[order]

"""Copying: how much of the synthetic texts is copied from the texts the expert was fitted on.

This is copying, not privacy: a low figure says nothing about what could be inferred about the
people behind the training texts (arXiv 2505.01524).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from steer.data.neardup import NearIndex
from steer.data.words import fold, words
from steer.evaluation.manifold import nearest, neighbour_distances

TAIL = 0.05
"""Share of the real texts that are closest to training texts: what is as close is too close."""


@dataclass(frozen=True)
class Known:
    """Texts that may have been copied, and their unit rows (texts, d). The index and the distances
    serve all sets that are measured against these texts."""

    texts: Sequence[str]
    rows: np.ndarray
    threshold: float = 0.8

    @cached_property
    def index(self) -> NearIndex:
        """Finds texts with a Jaccard similarity of at least `threshold`."""
        index = NearIndex(self.threshold)
        for i, text in enumerate(self.texts):
            index.add(str(i), text)
        return index

    @cached_property
    def distinct(self) -> np.ndarray:
        """The rows of texts that differ by more than `fold` folds."""
        first = {fold(text): i for i, text in reversed(list(enumerate(self.texts)))}
        return self.rows[sorted(first.values())]

    @cached_property
    def gaps(self) -> np.ndarray:
        """Distances of each distinct text to its nearest other one."""
        return neighbour_distances(self.distinct, 1)


def exact_copies(texts: Sequence[str], known: Known) -> np.ndarray:
    """Whether each text is a known one once both are folded, bool (texts,)."""
    return np.array([known.index.find_equal(text) is not None for text in texts])


def near_copies(texts: Sequence[str], known: Known) -> np.ndarray:
    """Whether each text has a Jaccard similarity of at least the threshold with a known one, over
    character 5-grams; exact copies are near copies too; bool (texts,)."""
    return np.array([known.index.find(text) is not None for text in texts])


def authentic(rows: np.ndarray, known: Known) -> np.ndarray:
    """Whether each text is farther from its nearest known text than that one is from the next
    known text, bool (texts,): the authenticity of Alaa et al. 2022 (arXiv 2102.08921, section 3.3).
    For independent texts of the same kind it is the share without a mutual nearest neighbour, 0.38
    in the plane and near 0.5 in many dimensions; for copies 0. A known text that is repeated counts
    once, else its copies would pass. Needs two known texts that differ.
    """
    distances, places = nearest(rows, known.distinct)
    return distances > known.gaps[places]


def longest_runs(texts: Sequence[str], train: Sequence[str]) -> np.ndarray:
    """Counts words in the longest run that each text shares with any one of `train`, int
    (texts,)."""
    stream, owner = _joined([*train, *texts])
    first_query, size = len(train), int(stream.max()) + 1
    runs = np.zeros(len(texts), dtype=np.int64)
    # `key` numbers the run of `length` words that starts at `at`; equal runs have equal keys.
    # A run can only be longer where both sides share it, so few starts are left after each step.
    length, at = 1, np.flatnonzero(stream)
    key = stream[at]
    while True:
        query = owner[at] >= first_query
        shared = np.isin(key, np.intersect1d(key[query], key[~query]))
        at, key = at[shared], key[shared]
        if not at.size:
            return runs
        runs[owner[at[owner[at] >= first_query]] - first_query] = length
        following = stream[at + length]
        at, key = at[following > 0], (key * size + following)[following > 0]
        key = np.unique(key, return_inverse=True)[1]
        length += 1


def _joined(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers all words from 1, with a 0 after each text; gives also the text that each position
    belongs to."""
    split = [words(text) for text in texts]
    number = {word: i for i, word in enumerate(sorted({w for ws in split for w in ws}), start=1)}
    stream = [n for ws in split for n in (*(number[w] for w in ws), 0)]
    owner = np.repeat(np.arange(len(texts)), [len(ws) + 1 for ws in split])
    return np.array(stream, dtype=np.int64), owner


def nearest_cosines(rows: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Cosine of each text to its nearest of `train`; unit rows (texts, d) and (train, d)."""
    return (rows @ train.T).max(axis=1)


def closeness(near: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """Distance of each text to its nearest known one, (texts,), from `near_copies` and
    `nearest_cosines`: minus the cosine, and minus infinity for a near copy, which is closer than
    any cosine says."""
    return np.where(near, -np.inf, -cosines)


def closeness_among(rows: np.ndarray) -> np.ndarray:
    """The same of each text to the nearest other one of its own set."""
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    found: np.ndarray = -cosines.max(axis=1)
    return found

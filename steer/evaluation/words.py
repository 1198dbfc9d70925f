"""Words of a text: one definition for every metric."""

from collections.abc import Iterator, Sequence

import numpy as np

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Splits text into words: the casefolded words of `text`, split at white space."""
    return text.casefold().split()


def ngrams(sequence: Sequence[str], n: int) -> Iterator[Ngram]:
    """Lists the runs of `n` consecutive words, in order; none when there are fewer than `n`
    words."""
    return (tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))


def lengths(texts: Sequence[str]) -> np.ndarray:
    """Counts the words in each text, shape (texts,)."""
    return np.array([len(words(text)) for text in texts])


def first_words(texts: Sequence[str], budget: int) -> list[str]:
    """Takes the leading texts that together have at most `budget` words (always at least one
    text)."""
    total = lengths(texts).cumsum()
    return list(texts[: max(1, int((total <= budget).sum()))])


def length_bins(counts: Sequence[np.ndarray], bins: int = 24) -> np.ndarray:
    """Chooses whole edges, at most `bins` + 2, for words in a text of several sets, shape (edges,):
    equal steps over all but the longest hundredth, which is in the last bin however long it is."""
    every = np.concatenate(counts)
    low, high, top = int(every.min()), int(np.percentile(every, 99)), int(every.max())
    edges = np.arange(low, high + 1, -(-(high + 1 - low) // bins))
    return np.append(edges, top + 1)

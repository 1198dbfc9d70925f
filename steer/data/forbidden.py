"""Texts that records must not come close to, such as a test set (decontamination)."""

from collections.abc import Iterator, Sequence

from steer.data.neardup import NearIndex
from steer.data.words import words as split_words

RUN, SHORTEST = 8, 4
"""Words in common, one after the other, that are too many; the fewest where a text has no more."""


class Forbidden:
    """Finds the forbidden text that another one comes too close to.

    Too close is a Jaccard index of character 5-grams of at least `near`, as for near duplicates; or
    `RUN` words in a row in common, as test sets are looked for in what language models read
    (arXiv 2005.14165, appendix C, has 13). A forbidden text of fewer words is searched for as a
    whole, if it has at least `SHORTEST`. Case, punctuation and white space do not count.
    """

    def __init__(self, texts: Sequence[str], near: float = 0.8) -> None:
        self._near = NearIndex(near)
        self._runs: dict[int, int] = {}
        self._lengths: set[int] = set()
        for row, text in enumerate(texts):
            self._near.add(str(row), text)
            words = split_words(text)
            length = min(RUN, len(words))
            if length >= SHORTEST:
                self._lengths.add(length)
                for run in _runs(words, length):
                    self._runs.setdefault(run, row)

    def find(self, text: str) -> int | None:
        """Finds the row of a forbidden text that `text` is too close to; None if there is none."""
        near = self._near.find(text)
        if near is not None:
            return int(near)
        words = split_words(text)
        runs = (run for length in sorted(self._lengths) for run in _runs(words, length))
        return next((self._runs[run] for run in runs if run in self._runs), None)


def _runs(words: Sequence[str], length: int) -> Iterator[int]:
    """Hashes the runs of `length` words; the same within a process, where alone they are used."""
    return (hash(tuple(words[i : i + length])) for i in range(len(words) - length + 1))

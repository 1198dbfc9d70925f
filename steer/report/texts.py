"""Texts of the page: once each, masked or not, with the words they share marked."""

import re
from collections.abc import Iterable
from itertools import chain, islice

from steer.data.words import ngrams, words

RUN = 3
"""Words in a row, in both texts, that are marked as a run."""

_WORD = re.compile(r"\w+")
_DOT = "·"


class Texts:
    """Texts of a page, in the order of their numbers. There is no other way in."""

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Adds `text`, on one line and masked if this page masks; gives its number."""
        line = " ".join(text.split())
        return self._numbers.setdefault(mask(line) if self._masked else line, len(self._numbers))

    @property
    def shown(self) -> list[str]:
        return list(self._numbers)


def mask(text: str) -> str:
    """Masks each word to its first character and a dot for every other; as many words as before.

    A word of one character is a dot: else a word spelt with spaces could be read.
    """
    return _WORD.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    word = match[0]
    return _DOT if len(word) == 1 else word[0] + _DOT * (len(word) - 1)


def shared_words(text: str, other: str) -> str:
    """Marks with a digit what stands between white space in `text`: 1 where `other` has all its
    words too, 2 where all are part of runs of three words that `other` has too, else 0."""
    pieces, known = [words(piece) for piece in text.split()], words(other)
    own, shared, runs = list(chain(*pieces)), set(known), set(ngrams(known, RUN))
    marks = ["1" if word in shared else "0" for word in own]
    for start, run in enumerate(ngrams(own, RUN)):
        if run in runs:
            marks[start : start + RUN] = "2" * RUN
    each = iter(marks)
    return "".join(min(islice(each, len(piece)), default="0") for piece in pieces)


def listed(names: Iterable[str]) -> str:
    """Joins words as in "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

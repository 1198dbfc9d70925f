"""Texts of the page: once each, masked or not."""

import re
from collections.abc import Iterable

_WORD = re.compile(r"\w+")
_DOT = "·"


class Texts:
    """Texts of a page, in the order of their numbers. There is no other way in."""

    def __init__(self, masked: bool) -> None:
        self._masked = masked
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Adds `text`, masked if this page masks; gives its number."""
        shown = mask(text.strip("\n")) if self._masked else text.strip("\n")
        return self._numbers.setdefault(shown, len(self._numbers))

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


def listed(names: Iterable[str]) -> str:
    """Joins words as in "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

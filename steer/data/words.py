"""Words of a text, and the form in which texts are compared: one definition for every part.

A folded text is for comparing only. What is stored and shown is the text as it was given.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
import regex

Ngram = tuple[str, ...]

RUN = 3
"""Words in a row, in both texts, that are marked as a run."""

_IGNORABLE = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
# UAX 29 keeps a run of Katakana together; written without spaces, it is cut like Hiragana.
_BOUNDARY = regex.compile(r"(?V1w)\b|(?=\p{Word_Break=Katakana})")
_QUOTES = "'\u2019"
_SPOKEN = regex.compile(r"[\p{L}\p{N}\p{Extended_Pictographic}\p{Regional_Indicator}]")
# The same rules for ASCII, which are quick: capitals become small, and all but letters, digits and
# what may join them a space; then so does what does not join. Letters are joined by . ' : and
# digits by . ' , ; where one is on both sides.
_KEPT = b"abcdefghijklmnopqrstuvwxyz0123456789.':,;"
_SPACED = bytes(byte if byte in _KEPT else ord(" ") for byte in bytes(range(256)).lower())
_LOOSE = re.compile(r"[.':,;](?!(?<=[a-z][.':])[a-z]|(?<=[0-9][.',;])[0-9])")


def fold(text: str) -> str:
    """Folds what readers hardly see: Unicode forms (NFKC), case, characters without a width, and
    white space, every run of which becomes one space.

    Texts with equal folds count as copies. Folding twice changes nothing. It is the compatibility
    caseless matching of the Unicode Standard (section 3.13, D146), without default-ignorable code
    points.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKC", _IGNORABLE.sub("", text)).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).split())


def words(text: str) -> list[str]:
    """Splits the folded text at the word boundaries of UAX 29, and keeps what has a letter, a digit
    or a pictograph: punctuation is no word.

    In scripts without spaces that need a dictionary (Han, Hiragana, Katakana, Thai, Lao, Khmer,
    Myanmar and their like) each character, with its marks, is a word.
    """
    if text.isascii() and "_" not in text:
        return _LOOSE.sub(" ", text.encode().translate(_SPACED).decode()).split()
    return [word for piece in fold(text).split() for word in _pieces(piece)]


def _pieces(text: str) -> list[str]:
    if text.isascii() and text.isalnum():
        return [text]
    # `regex` joins an apostrophe to a vowel behind it ('apple'); the rules do not.
    return [piece.lstrip(_QUOTES) for piece in _BOUNDARY.split(text) if _SPOKEN.search(piece)]


def ngrams(sequence: Sequence[str], n: int) -> Iterator[Ngram]:
    """Lists the runs of `n` consecutive words, in order; none when there are fewer than `n`
    words."""
    return (tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1))


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

"""Scripts of texts (Latin, Han, Cyrillic ...), and what a character of each says."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice

_NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "HANGUL": "Hangul"}
_WIDTHS = ("FULLWIDTH", "HALFWIDTH", "MODIFIER", "MATHEMATICAL")
# Translations of one text have about a third as many characters in Chinese as in English, and half
# as many in Korean and in kana.
_WEIGHTS = {"Han": 3, "Kana": 2, "Hangul": 2}
_READ = 300


@cache
def script(character: str) -> str | None:
    """Names the script of a letter by its Unicode name; None for what is no letter."""
    if not character.isalpha():
        return None
    words = unicodedata.name(character, "OTHER").split()
    first = words[1] if words[0] in _WIDTHS and len(words) > 1 else words[0]
    return _NAMES.get(first, "Latin" if first.isdigit() else first.capitalize())


def main_script(text: str) -> str | None:
    """Names the script of most letters at the beginning of a text; None without letters."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, islice(text, _READ))) else None
    found = Counter(name for name in map(script, text[:_READ]) if name)
    return found.most_common(1)[0][0] if found else None


def shares(texts: Iterable[str]) -> dict[str, float]:
    """Shares of the texts by their main script, the largest first; "none" is no letters."""
    found = Counter(main_script(text) or "none" for text in texts)
    total = found.total()
    return {name: count / total for name, count in found.most_common()}


def reading_length(text: str) -> int:
    """Length of a text in letters of an alphabet: a Han character counts as three, a kana or a
    Hangul syllable as two, any other character as one."""
    if text.isascii():
        return len(text)
    return sum(_WEIGHTS.get(script(character) or "", 1) for character in text)


def strange(real: Sequence[str], made: Sequence[str]) -> str | None:
    """Names the script of most of the texts `made` where fewer than a twentieth of the `real` ones
    are in it; None where they agree."""
    if not made or not real:
        return None
    name, share = next(iter(shares(made).items()))
    return name if share > 0.5 and shares(real).get(name, 0.0) < 0.05 and name != "none" else None


def per_letter(texts: Sequence[str], tokens: Sequence[int]) -> float:
    """Computes the tokens a letter of an alphabet; a character of Han counts as three."""
    return sum(tokens) / max(1, sum(map(reading_length, texts)))

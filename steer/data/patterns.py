"""Regular expressions of users, matched within a time limit.

The language is that of Python's `re`, matched by the package `regex`: it needs no exponential time
for the usual traps such as `(a+)+$`, and it can be stopped.
"""

import re
import warnings
from functools import lru_cache

import regex

from steer.errors import SteerError
from steer.values import short

LONGEST = 10_000
"""Characters of a pattern."""

SECONDS = 5.0
"""Time that one text may take; a usual one takes a thousandth of a second."""


def check_pattern(pattern: str) -> None:
    """Raises `SteerError` for what is no regular expression, or one too long or too deep."""
    _compiled(pattern)


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches. Raises `SteerError` when that takes too long: the pattern
    tries too many ways, and the next text may take longer still."""
    try:
        return _compiled(pattern).fullmatch(text, timeout=SECONDS) is not None
    except TimeoutError:
        raise SteerError(
            f"pattern {short(pattern)} takes over {SECONDS:g} seconds for a text of {len(text)} "
            "characters; write it without repeats within repeats and back references (--pattern)"
        ) from None
    except MemoryError:
        raise SteerError(
            f"pattern {short(pattern)} needs too much memory for a text of {len(text)} "
            "characters; write a simpler one (--pattern)"
        ) from None


@lru_cache(maxsize=16)
def _compiled(pattern: str) -> "regex.Pattern[str]":
    if len(pattern) > LONGEST:
        raise SteerError(f"pattern has {len(pattern)} characters; give at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of sets within sets
            re.compile(pattern)
            return regex.compile(pattern, regex.VERSION0)
    except RecursionError:
        raise SteerError(
            f"pattern {short(pattern)} is nested too deeply; write a simpler one"
        ) from None
    except (re.error, regex.error, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SteerError(f"pattern {short(pattern)} is no regular expression: {reason}") from None

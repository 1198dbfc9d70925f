"""Characters that nobody sees: texts that hold nothing else, and those that steer a terminal."""

import re

# Control characters (category Cc) that are no white space of a text.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
# Default_Ignorable_Code_Point of Unicode: zero-width, direction, variation, filler.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(rf"[^\s{_IGNORABLE}]")
# Line ends and tabs are harmless; directions (Bidi) reorder what stands beside them.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def is_blank(text: str) -> bool:
    """Whether a text holds nothing that can be seen: white space and zero-width characters only."""
    return _VISIBLE.search(text) is None


def find_control(text: str) -> str | None:
    """Finds the first control character that is no white space, such as NUL or ESC; else None."""
    found = _CONTROL.search(text)
    return found[0] if found else None


def name_control(character: str) -> str:
    """Names a control character as in "U+001B (ESC)"."""
    known = {"\0": "NUL", "\b": "BACKSPACE", "\x1b": "ESC", "\x7f": "DEL"}
    code = f"U+{ord(character):04X}"
    return f"{code} ({known[character]})" if character in known else code


def printable(text: str) -> str:
    """Writes a text for a terminal: control characters and overrides of direction as escapes such
    as \\x1b, so that they are seen and not obeyed. Line ends and tabs stay."""
    return _UNPRINTABLE.sub(_escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

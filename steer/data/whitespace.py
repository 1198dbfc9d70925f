"""White space of texts: how much of it a record keeps."""

import re
from collections.abc import Iterable
from typing import Literal

Whitespace = Literal["exact", "line", "single"]
"""Exact: as written. Line: line ends, with the white space around them, are one space. Single: so
is every run of white space."""

_ENDS = "\n\r\v\f\x85\u2028\u2029"
_END = re.compile(rf"\s*[{_ENDS}]\s*")
_OUTER = re.compile(rf"^\s*[{_ENDS}]\s*|\s*[{_ENDS}]\s*$")


def kept(text: str, whitespace: Whitespace) -> str:
    """Writes a text with the white space that is kept."""
    if whitespace == "single":
        return " ".join(text.split())
    if whitespace == "line":
        return _END.sub(" ", _OUTER.sub("", text))
    return text


def found_in(texts: Iterable[str]) -> Whitespace:
    """Finds the strictest form that changes none of the texts."""
    form: Whitespace = "single"
    for text in texts:
        if _END.search(text):
            return "exact"
        if form == "single" and text != kept(text, "single"):
            form = "line"
    return form

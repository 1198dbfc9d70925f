"""Values in files of JSON, checked by meaning: numbers are numbers, texts are texts."""

import json
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

NOT_OURS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What goes wrong where a file is read that holds something else than it should."""

_LONGEST = 60


def checked(kind: TypeAdapter[T], content: bytes) -> T:
    """Reads JSON as values of a kind, and converts none. Raises `ValueError`, in one line, for what
    is no JSON or not of that kind."""
    try:
        return kind.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        found = f"{name} is {short(first['input'])}: " if name else ""
        raise ValueError(f"{found}{_one_line(first['msg'])}") from None


def check_values(kind: TypeAdapter[Any], values: Any) -> None:
    """Raises `ValueError`, in one line, where JSON `values` are not of a kind."""
    # A path that is not UTF-8 holds lone surrogates, which are as good as any text here.
    checked(kind, json.dumps(values, ensure_ascii=False).encode(errors="replace"))


def short(value: object) -> str:
    """Shows a value that may be of any length, in ASCII."""
    shown = ascii(value)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."


def what_is_wrong(error: Exception) -> str:
    """Says one of `NOT_OURS` in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, ValueError):
        return _one_line(str(error))[:300]
    return f"{type(error).__name__}: {_one_line(str(error))[:300]}"


def _one_line(text: str) -> str:
    return " ".join(text.split())

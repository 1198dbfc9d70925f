"""Shapes: what a whole record must be, in a form that decoding can be held to.

llguidance, the optional library behind them, reads Lark grammars that may hold JSON Schemas; every
kind of shape is written as one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from steer.errors import SteerError

Kind = Literal["schema", "regex", "choices", "grammar"]

INSTALL = "run: pip install llguidance"
_GRAMMARS = (".lark", ".gbnf")
# One way to write a value, that of `write_value`.
_FIXED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True)
class Shape:
    """What a whole record must be: JSON of a `schema`, a match of a `regex`, one of `choices` or a
    sentence of a `grammar` in Lark or GBNF. `source` is that text, which is JSON for a schema and
    choices; `lead` is what stands before the record in a completion.

    Raises `SteerError` for an unknown kind and for JSON that is none.
    """

    kind: Kind
    source: str
    lead: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.source}"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SteerError(f"shape is {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        if self.kind in ("schema", "choices"):
            value = _json(self.kind, self.source)
            if self.kind == "choices" and not _are_choices(value):
                raise SteerError(f"choices is {self.source[:40]}: give a list of different texts")

    @classmethod
    def of(cls, given: Any, folder: Path = Path()) -> "Shape":
        """Reads a shape as a task's YAML has it, such as {"regex": "[a-z]+"}; a schema may be a
        file in `folder`, and so may a grammar whose name ends in .lark or .gbnf. Raises
        `SteerError` for anything else."""
        if not isinstance(given, Mapping) or len(given) != 1 or not set(given) <= set(_KINDS):
            raise SteerError(f"shape is {given!r}: give one of {', '.join(_KINDS)} and its value")
        ((kind, value),) = given.items()
        named = isinstance(value, str) and (kind == "schema" or value.endswith(_GRAMMARS))
        if kind in ("schema", "grammar") and named:
            value = _read(folder / value)
        return cls(kind, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    @property
    def properties(self) -> dict[str, Any]:
        """Columns of the records by name, each with its schema, where a record is an object whose
        schema names them; else empty."""
        schema = json.loads(self.source) if self.kind == "schema" else None
        found = schema.get("properties") if isinstance(schema, dict) else None
        return found if isinstance(found, dict) else {}

    def grammar(self) -> str:
        """Writes the shape as a grammar of llguidance."""
        before = f"{_literal(self.lead)} " if self.lead else ""
        if self.kind == "regex":
            pattern = library().regex_to_lark(f"(?:{self.source})", use_ascii="")
            return f"start: /{self.lead}{pattern}/\n"
        if self.kind == "choices":
            choices = " | ".join(map(_literal, json.loads(self.source)))
            return f"start: {before}({choices})\n"
        if self.kind == "schema":
            schema = json.loads(self.source)
            schema = schema | {"x-guidance": _FIXED} if isinstance(schema, dict) else schema
            return f"start: {before}record\nrecord: %json {json.dumps(schema)}\n"
        return f"start: {before}record\nrecord: %lark {{\n{_as_lark(self.source)}\n}}\n"

    def check(self) -> None:
        """Raises `SteerError` when the shape cannot be read, or nothing can have it."""
        _matcher(self)

    def fits(self, text: str) -> bool:
        """Whether a whole record has the shape. Raises `SteerError` as `check` does."""
        reader, content = _matcher(self), list(text.encode())
        reader.reset()
        return bool(reader.try_consume_tokens(content) == len(content) and reader.is_accepting())


_KINDS = get_args(Kind)


def write_value(value: Any) -> str:
    """Writes a value as JSON in the one way that shapes have."""
    return json.dumps(value, ensure_ascii=False)


def spoken(text: str) -> str:
    """Leaves of a record that is a JSON object only its values, each on a line: names of columns
    make no two records alike. Any other text is given back as it is."""
    try:
        value = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return text
    return "\n".join(_leaves(value)) if isinstance(value, dict) else text


def _leaves(value: Any) -> Iterable[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif value is not None:
        yield str(value)


@lru_cache(maxsize=64)
def _matcher(shape: Shape) -> Any:
    """Makes a matcher that reads a record byte by byte."""
    return matcher(shape, library().LLTokenizer("byte"))


def matcher(shape: Shape, tokenizer: Any) -> Any:
    """Makes llguidance's matcher of a shape for one of its tokenizers. Raises `SteerError` when the
    shape cannot be read, or nothing can have it."""
    found = library().LLMatcher(tokenizer, shape.grammar(), log_level=0)
    if found.is_error():
        raise SteerError(f"the {shape.kind} allows no record: {reason(found.get_error())}")
    return found


def reason(error: str) -> str:
    """Cuts an error of llguidance down to what it says, without the place in the grammar."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    kept = [line for line in lines if "|" not in line and set(line) - {"^"}]
    first = kept[0] if kept else "no reason given"
    place, _, rest = first.partition("): ")
    first = rest if place.startswith("at ") and rest else first
    last = kept[-1] if first.endswith("error:") else ""
    return f"{first} {last}".strip().removeprefix("failed to compile JSON schema: ")


def library() -> Any:
    """Imports llguidance. Raises `SteerError` where it is not installed."""
    try:
        import llguidance
    except ImportError:
        raise SteerError(f"a task with a shape needs llguidance; {INSTALL}") from None
    return llguidance


def _as_lark(source: str) -> str:
    library()
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return str(any_to_lark(source)).replace("%llguidance {}", "")
    except Exception as error:  # the converter's own kinds
        raise SteerError(f"the grammar is neither Lark nor GBNF: {error}") from None


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(kind: str, source: str) -> Any:
    try:
        return json.loads(source)
    except ValueError as error:
        raise SteerError(f"the {kind} is no valid JSON: {error}") from None


def _are_choices(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(each, str) and each for each in value)
    return texts and 0 < len(value) == len(set(value))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SteerError(f"cannot read {path}: {reason}") from None

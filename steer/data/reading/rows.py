"""Rows as every reader gives them, and the places that messages name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class NoValue:
    """Stands for the value of a cell that has something else: `what`, and what to do about it."""

    what: str
    advice: str


@dataclass(frozen=True)
class Rows:
    """Rows of one file, numbered as a user counts its `unit`s, to be read once.

    `textual` are rows whose cells are all text, whatever they stand for.
    `names` are all its columns where they are known beforehand, though the rows may hold only those
    that can be needed. `notes` say what was decided about the file, and `advice` what may be done
    about blank texts in it.
    """

    source: str
    unit: str
    numbered: Iterator[tuple[int, Row]]
    names: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)
    textual: bool = False
    advice: str = ""

    def where(self, number: int) -> str:
        """Names the place of a row, for a message."""
        return f"{self.source}: {self.unit} {number}"


def shown(value: object, most: int = 40) -> str:
    """Writes the beginning of a value in quotes, for a message; what cannot be printed as escapes,
    as \\x1b."""
    text = value if isinstance(value, str) else str(value)
    return repr(text[:most])

"""Texts on a terminal: control characters are shown and never sent to it."""

import sys
import textwrap
from collections.abc import Iterable

from rich.markup import escape

from steer.data.characters import printable


def safe(text: object) -> str:
    """Writes a text so that neither Rich nor the terminal obeys what is in it."""
    return escape(printable(str(text)))


def indented(text: str, columns: int) -> str:
    """Moves the lines after the first one right, so that a text of several stays together."""
    first, *others = text.split("\n")
    return "\n".join([first, *(textwrap.indent(line, " " * columns) for line in others)])


def one_line(text: str, most: int = 94) -> str:
    """Writes a text on one line, cut to its beginning, without what steers a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def say(notes: Iterable[str]) -> None:
    """Prints what was decided when texts were read, on standard error."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)

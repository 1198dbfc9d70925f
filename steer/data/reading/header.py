"""Whether the first row of a file names its columns."""

import re
from collections.abc import Sequence

from steer.data.reading.rows import shown
from steer.data.reading.settings import Reading
from steer.errors import SteerError

# What columns of texts and labels are called, in small letters.
_KNOWN = frozenset(
    (
        *("text", "texts", "comment", "comments", "comment_text", "content", "message", "messages"),
        *("sentence", "review", "tweet", "post", "question", "answer", "description", "summary"),
        *("prompt", "completion", "instruction", "input", "output", "response", "abstract"),
        *("title", "headline", "body", "utterance", "transcript", "id", "label", "labels", "class"),
        *("category", "target", "score"),
    )
)
_NAME = re.compile(r"[^\W\d][\w .:/()\[\]#%&+-]{0,39}(?<![.:])")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_WORDS = 3


def split_header(
    first: Sequence[Sequence[str]], source: str, reading: Reading, notes: list[str]
) -> tuple[list[str], int]:
    """Finds the names of the columns, "" for one without, in the first rows of a `source`, and how
    many rows they take: 1, or 0 without a header, when columns are called 1, 2 and so on. A header
    that only its looks tell is said in `notes`.

    Raises `SteerError` when the first row may as well be a text or a title, and for a name that
    occurs twice.
    """
    if not first:
        return [], 0
    if reading.header is False:
        return [str(number) for number in range(1, len(first[0]) + 1)], 0
    names = [cell.strip() for cell in first[0]]
    if reading.header is None and not is_header(names, first[1:], reading):
        raise SteerError(
            f"{source}: the first row may be a text or a header: {shown(', '.join(names), 60)}; "
            "give --no-header if it is a text, --header if it names the columns"
        )
    if reading.header is None and not names_usual(names, reading):
        _check_unnamed(names, first[1:], source)
        notes.append(
            f"{source}: the first row is taken for names of columns: "
            f"{shown(', '.join(names), 60)}; --no-header if it is a text"
        )
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise SteerError(
            f"{source}: the column name {twice[0]!r} occurs twice in the first row; rename one, or "
            "give --no-header if it names no columns"
        )
    return names, 1


def is_header(first: Sequence[str], body: Sequence[Sequence[str]], reading: Reading) -> bool:
    """Whether the cells of the first row surely name the columns of the `body`.

    Sure is a name that was asked for or that such columns usually have. Else all cells must look
    like names that do not occur again, and a column must differ from its name: numbers, or longer
    texts. So a text that might be a name, above texts like it, is not sure.
    """
    if names_usual(first, reading):
        return True
    columns = [_column(body, place) for place in range(len(first))]
    pairs = [(cell, values) for cell, values in zip(first, columns, strict=True) if cell]
    names = all(_is_name(cell) and cell not in values for cell, values in pairs)
    return names and any(_differs(cell, values) for cell, values in pairs)


def names_usual(first: Sequence[str], reading: Reading) -> bool:
    """Whether one of the cells is a name that was asked for, or that columns usually have."""
    asked = {reading.text_column, reading.label_column, *reading.fields}
    return any(cell in asked or cell.casefold() in _KNOWN for cell in first)


def _check_unnamed(names: Sequence[str], body: Sequence[Sequence[str]], source: str) -> None:
    """Raises `SteerError` where a column without a name holds more than an index: the first row may
    be a title above the names."""
    width = max(map(len, body), default=0)
    for place in range(width):
        texts = [cell for cell in _column(body, place) if not is_number(cell)]
        if texts and not (names[place] if place < len(names) else ""):
            raise SteerError(
                f"{source}: column {place + 1} has no name in the first row "
                f"({shown(', '.join(names), 60)}) but holds {shown(texts[0])}; take out rows above "
                "the names, or give --header if it names the columns, --no-header if it is a text"
            )


def is_number(cell: str) -> bool:
    """Whether a cell holds a number and nothing else."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _column(body: Sequence[Sequence[str]], place: int) -> list[str]:
    cells = (row[place].strip() for row in body if place < len(row))
    return [cell for cell in cells if cell]


def _is_name(cell: str) -> bool:
    return _NAME.fullmatch(cell) is not None and len(cell.split()) <= _WORDS


def _differs(name: str, values: Sequence[str]) -> bool:
    """Whether most values are numbers, or of more words than a name has."""
    unlike = [value for value in values if is_number(value) or len(value.split()) > _WORDS]
    return len(unlike) > len(values) / 2 and len(name.split()) < _WORDS

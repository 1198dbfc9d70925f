"""Where a row has its text and its label: a column, a field within, a chat's answer, a template."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from steer.data.characters import is_blank
from steer.data.reading.chats import (
    Chat,
    asked,
    earlier_turns,
    is_chat,
    is_written,
    last_answer,
    messages,
    read_written,
    said_after,
)
from steer.data.reading.header import is_number
from steer.data.reading.rows import NoValue, Row, Rows, shown
from steer.data.reading.settings import FIELD, Reading
from steer.errors import SteerError
from steer.shapes import write_value

ABSENT = object()
"""Stands for the value of a row that has none."""

_CHATS = (
    *("messages", "conversations", "conversation", "chat", "turns"),
    *("chat_messages", "contents"),
)
_ANSWERED = (
    *(("instruction", answer) for answer in ("output", "response")),
    *(("prompt", answer) for answer in ("completion", "response", "chosen")),
    *(("question", answer) for answer in ("answer", "response")),
)


@dataclass(frozen=True)
class Layout:
    """Functions that give a row's text and label, `ABSENT` where there is none; `column` and
    `label_column` are their names for messages. `turns` gives what was said before the text, where
    that is an answer, and `after` what was said last after it; None where it is not known."""

    text: Callable[[Row], Any]
    column: str
    label: Callable[[Row], Any] | None
    label_column: str | None
    turns: Callable[[Row], Chat | None] = lambda _: None
    after: Callable[[Row], str | None] = lambda _: None


def find_layout(rows: Rows, sample: Sequence[Row], reading: Reading) -> Layout:
    """Finds where texts and labels are, from the settings and the first rows. Raises `SteerError`
    when there is no such column, or several may be the text's."""
    names = list(dict.fromkeys([*(rows.names or ()), *(name for row in sample for name in row)]))
    label = reading.label_column
    if label is not None:
        _check(rows, sample, names, label, "label", "--label-column")
    wanted = None if label is None else (lambda row: value_at(row, label))
    if reading.record:
        for field in reading.columns:
            _check(rows, sample, names, field, "text", "--columns")
        columns = reading.record
        return Layout(lambda row: _object(columns, row), ",".join(columns), wanted, label)
    if reading.text is not None:
        for field in reading.fields:
            _check(rows, sample, names, field, "text", "--text")
        template, parts = reading.text, {f: _reader(rows, sample, f) for f in reading.fields}
        return Layout(lambda row: _joined(template, parts, row), template, wanted, label)
    column = reading.text_column or _guess(rows, sample, names, label)
    _check(rows, sample, names, column, "text", "--text-column")
    value, *before = (_reader(rows, sample, each) for each in (column, *_before(column, names)))
    return Layout(
        lambda row: _answer(value(row)),
        column,
        wanted,
        label,
        lambda row: _turns(value(row), [each(row) for each in before]),
        lambda row: _after(value(row)),
    )


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """Gives the value under a key, or within: "a.b" is key b of the object under a, "a.0" its
    first item. `ABSENT` if there is none."""
    if path in row:
        return row[path]
    value: Any = row
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return ABSENT
    return value


def roots(reading: Reading, names: Sequence[str]) -> list[str] | None:
    """The columns of `names` that the settings need; None if that depends on the rows."""
    paths = [*reading.fields, *filter(None, (reading.text_column, reading.label_column))]
    paths += _before(reading.text_column, names) if reading.text_column else []
    if reading.finds_text:
        if "text" not in names or reading.label_column == "text":
            return None
        paths.append("text")
    found = [path if path in names else path.split(".")[0] for path in paths]
    return [name for name in dict.fromkeys(found) if name in names]


def listed(names: Iterable[str], most: int = 20) -> str:
    """Lists the names of columns for a message; the first ones when there are many."""
    all_names = list(names)
    rest = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + rest or "none"


def _reader(rows: Rows, sample: Sequence[Row], path: str) -> Callable[[Row], Any]:
    """A function that gives a row's value; where chats are written as strings, the chat."""
    if not any(is_written(value_at(row, path)) for row in sample):
        return lambda row: value_at(row, path)
    rows.notes.append(f"{rows.source}: strings in {path} are read as the chats that they hold")
    return lambda row: _opened(value_at(row, path))


def _opened(value: Any) -> Any:
    return read_written(value) if isinstance(value, str) and not is_blank(value) else value


def _check(
    rows: Rows, sample: Sequence[Row], names: list[str], path: str, role: str, option: str
) -> None:
    """Raises `SteerError` unless there is such a column, or some row has such a field."""
    if path in names or any(value_at(row, path) is not ABSENT for row in sample):
        return
    if path.split(".")[0] in names and not sample:
        return
    columns = listed([*names, *_fields(sample)])
    raise SteerError(
        f"{rows.source} has no {role} column {path!r}; its columns: {columns}; "
        f"name one with {option}"
    )


def _guess(rows: Rows, sample: Sequence[Row], names: list[str], label: str | None) -> str:
    if "text" in names and label != "text":
        return "text"
    texts = [name for name in names if name != label and _are_texts(sample, name)]
    alike = [name for name in texts if name.casefold() == "text"]
    if len(alike) == 1:
        return alike[0]
    answers = [answer for name, answer in _ANSWERED if {name, answer} <= set(names)]
    chats = [name for name in (*_CHATS, *answers) if _are_chats(sample, name)]
    column = next(iter([*chats, *(texts if len(texts) == 1 else answers)]), None)
    if column is not None:
        rows.notes.extend(_said(rows.source, sample, names, column))
        return column
    nested = _fields(sample)
    raise SteerError(
        f"{rows.source} has no column 'text'; choose its column with --text-column: "
        f"{listed([*names, *nested])}; or join some with --text, or keep some as columns of a "
        "record with --columns"
    )


def _said(source: str, sample: Sequence[Row], names: list[str], column: str) -> list[str]:
    """Says which column was chosen, where there was a choice, and how a pair is read whole."""
    if _are_chats(sample, column):
        return [f"{source}: the texts are the last answer in {column}; --text-column names another"]
    pairs = [f"{name},{column}" for name in _asked(column) if name in names]
    whole = f", --columns {pairs[0]} reads pairs" if pairs else ""
    chosen = f"{source}: the texts are the column {column}; --text-column names another{whole}"
    return [chosen] if len(names) > 1 else []


def _before(column: str, names: Sequence[str]) -> list[str]:
    """Columns of what a column of answers answers, as far as there are such."""
    found = [name for name in _asked(column) if name in names][:1]
    more = ("input", "context") if found == ["instruction"] else ()
    return found + [name for name in more if name in names][:1]


def _asked(column: str) -> list[str]:
    """Columns that a column of answers stands beside."""
    return [name for name, answer in _ANSWERED if answer == column]


def _are_chats(sample: Sequence[Row], name: str) -> bool:
    return any(is_chat(row.get(name)) or is_written(row.get(name)) for row in sample)


def _are_texts(sample: Sequence[Row], name: str) -> bool:
    values = [row.get(name) for row in sample]
    strings = [value for value in values if isinstance(value, str)]
    return len(strings) == len(values) > 0 and not all(map(is_number, strings))


def _fields(sample: Sequence[Row]) -> list[str]:
    """Names of the fields within the objects of the first rows."""
    pairs = [(name, value) for row in sample for name, value in row.items()]
    objects = [(name, value) for name, value in pairs if isinstance(value, Mapping)]
    return list(dict.fromkeys(f"{name}.{key}" for name, value in objects for key in value))


def _answer(value: Any) -> Any:
    """The text of a value: of a chat, what is answered last."""
    if is_chat(value):
        answer = last_answer(value)
        return ABSENT if answer is None else answer
    return value


def _turns(value: Any, before: Sequence[Any]) -> Chat | None:
    """What was said before a text: the earlier turns of its chat, else what it answers, which may
    be a chat too."""
    own = earlier_turns(value) if is_chat(value) else ()
    if own or own is None or not before:
        return own
    asking = [turn for each in before if is_chat(each) for turn in each]
    return earlier_turns([*asking, *messages((), "")]) if asking else asked(before)


def _after(value: Any) -> str | None:
    return said_after(value) if is_chat(value) else None


def _object(columns: Sequence[str], row: Row) -> Any:
    """The columns that a row has, as JSON of an object; `ABSENT` where it has none, and the
    `NoValue` of a cell if there is one."""
    values = {name: value_at(row, name) for name in columns}
    if missing := [value for value in values.values() if isinstance(value, NoValue)]:
        return missing[0]
    there = {name: value for name, value in values.items() if value is not ABSENT}
    return write_value(_plain(there)) if there else ABSENT


def _plain(value: Any) -> Any:
    """The value as JSON has it: NaN is null, and a date what it is written as. Raises `SteerError`
    for bytes."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value  # of NumPy
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        raise SteerError(f"a column of a record holds bytes: {shown(value)}; leave it out")
    value = float(value) if isinstance(value, Decimal) else value
    return value if isinstance(value, str | int | float) else str(value)


def _joined(template: str, parts: Mapping[str, Callable[[Row], Any]], row: Row) -> Any:
    """The template with a row's values in it; `ABSENT` where one is missing, and the `NoValue` of a
    cell if there is one. Raises `SteerError` for a value that is no text, number or truth."""
    values = {name: _answer(part(row)) for name, part in parts.items()}
    if missing := [value for value in values.values() if isinstance(value, NoValue)]:
        return missing[0]
    if any(value is None or value is ABSENT or value != value for value in values.values()):
        return ABSENT
    for name, value in values.items():
        if not isinstance(value, str | Real):
            kind = type(value).__name__
            raise SteerError(f"{name} is a {kind}: {shown(value)}; leave it out of --text")
    return FIELD.sub(lambda match: str(values[match[1]]), template)

"""Rows of JSON: an object a line, or one document that holds the objects."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from steer.data.reading.chats import is_chat
from steer.data.reading.header import names_usual
from steer.data.reading.rows import Row, Rows, shown
from steer.data.reading.settings import Reading
from steer.data.reading.streams import Lines
from steer.errors import SteerError

LARGEST = 2**30
"""Characters that a JSON document may have: all of it is held at once."""


class _Twice(ValueError):
    """A key that an object has twice."""


def read_jsonl(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads an object a line; blank lines are no rows. Raises `SteerError`, while it is read, for
    a line that is none or has a key twice."""
    lines = Lines(stream, name, reading.encoding)
    return Rows(name, "line", _objects(lines, name), notes=lines.notes)


def read_json(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads a document: an array of objects or strings, an object that holds one under some key,
    or columns as pandas writes them. Objects on lines of their own are read as JSONL."""
    lines = Lines(stream, name, reading.encoding)
    text = _within(lines, name)
    if _is_jsonl(text):
        return Rows(name, "line", _objects(text, name), notes=lines.notes)
    document = _parse("\n".join(text), name) if any(map(str.strip, text)) else []
    items = enumerate(_items(document, name, reading), start=1)
    rows = ((number, _object(item, f"{name}: item {number}")) for number, item in items)
    return Rows(name, "item", rows, notes=lines.notes)


def _objects(lines: Iterable[str], name: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(_parse(line, name, number), f"{name}: line {number}")


def _within(lines: Lines, name: str) -> list[str]:
    text, size = [], 0
    for line in lines:
        text.append(line)
        size += len(line) + 1
        if size > LARGEST:
            raise SteerError(
                f"{name} has over {LARGEST:,} characters in one JSON document; write it as JSONL, "
                "an object a line, which is read line by line"
            )
    return text


def _is_jsonl(text: Sequence[str]) -> bool:
    """Whether the first of several lines with something on them is an object of its own."""
    filled = [line for line in text if line.strip()][:2]
    try:
        return len(filled) == 2 and isinstance(json.loads(filled[0]), dict)
    except (ValueError, RecursionError):
        return False


def _parse(text: str, name: str, line: int | None = None) -> Any:
    where = name if line is None else f"{name}: line {line}"
    try:
        return _DECODER.decode(text)
    except _Twice as error:
        raise SteerError(
            f"{where} has the key {shown(error.args[0])} twice in one object; rename or remove one"
        ) from None
    except (ValueError, RecursionError) as error:
        raise SteerError(
            f"{where} is no valid JSON: {error}; correct it, or name another --format"
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return value
    if is_chat(value):
        return {"messages": value}
    array = isinstance(value, list) and ": line " in where
    advice = " (or --format json for one array)" if array else ""
    raise SteerError(
        f"{where} is no JSON object but {type(value).__name__}: {shown(value)}; "
        f'write {{"text": "..."}} for each text{advice}'
    )


def _items(document: Any, name: str, reading: Reading) -> Sequence[Any]:
    """Finds the rows of a document."""
    if isinstance(document, list):
        return [{"text": item} if isinstance(item, str) else item for item in document]
    if not isinstance(document, dict):
        return [document]
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        rows = document["data"]  # as pandas writes it with orient="split"
        if all(isinstance(row, list) for row in rows):
            return [dict(zip(document["columns"], row, strict=False)) for row in rows]
    if _is_by_row(document, reading):
        return list(document.values())
    if columns := _columns(document):
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    held = {key: value for key, value in document.items() if _are_rows(value)}
    if len(held) > 1:
        raise SteerError(
            f"{name} holds several arrays of objects: {', '.join(held)}; "
            "write the one to read as a file of its own"
        )
    return next(iter(held.values()), [document])


def _is_by_row(document: Mapping[str, Any], reading: Reading) -> bool:
    """Whether an object holds a row under each key, as pandas writes it with orient="index": the
    rows have names of columns, and the keys are numbers or at least no such names."""
    if not document or not all(isinstance(v, dict) and v for v in document.values()):
        return False
    names = list(dict.fromkeys(name for row in document.values() for name in row))
    numbers = all(key.isdecimal() for key in document)
    if numbers or names_usual(list(document), reading):
        return numbers and not all(name.isdecimal() for name in names)
    return names_usual(names, reading)


def _columns(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns of equal length, each an array or an object by row; none if the document is
    another."""
    columns = [list(v.values()) if isinstance(v, dict) else v for v in document.values()]
    if not columns or not all(isinstance(column, list) and column for column in columns):
        return {}
    simple = all(not isinstance(value, dict | list) for column in columns for value in column)
    keys = {tuple(value) for value in document.values() if isinstance(value, dict)}
    if not simple or len(set(map(len, columns))) > 1 or len(keys) > 1:
        return {}
    return dict(zip(document, columns, strict=True))


def _are_rows(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) for item in value)
        and not is_chat(value)
    )

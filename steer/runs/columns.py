"""Columns of records that are objects, typed, beside the fields that say how each was made."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from steer.errors import SteerError
from steer.shapes import Shape, write_value

_PLAIN = {"string": str, "boolean": bool, "integer": int, "number": float}
_WIDEST = 2**63


def own_columns(text: str, shape: Shape | None) -> dict[str, Any]:
    """Reads the columns of a record that is an object of a schema's; none of any other. A column
    that a record leaves out is None."""
    if shape is None or not shape.properties:
        return {}
    value = json.loads(text)
    return {name: value.get(name) for name in shape.properties}


def flat_cells(own: Mapping[str, Any], shape: Shape | None, lists: bool) -> dict[str, Any]:
    """Writes what is nested in a record's own columns as JSON text; `lists` of plain values stay.
    Raises `SteerError` for a whole number that has more than 64 bits."""
    schemas = shape.properties if shape else {}
    return {name: _cell(name, own[name], _kind(schemas[name]), lists) for name in own}


def beside(own: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Makes a row of a record's own columns and its fields. A field whose name one of the columns
    has is called steer_NAME."""
    renamed = {f"steer_{name}" if name in own else name: fields[name] for name in fields}
    return {**own, **renamed}


def arrow_types(shape: Shape | None) -> dict[str, Any]:
    """Types of Arrow of the record's own columns, which follow from its schema alone."""
    import pyarrow

    plain = {
        "string": pyarrow.string(),
        "boolean": pyarrow.bool_(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
    }
    types: dict[str, Any] = {}
    for name, schema in (shape.properties if shape else {}).items():
        kind = _kind(schema)
        lists = kind.startswith("array of ")
        found = plain.get(kind.removeprefix("array of "), plain["string"])
        types[name] = pyarrow.list_(found) if lists else found
    return types


def to_table(rows: Iterable[Mapping[str, Any]], types: Mapping[str, Any]) -> Any:
    """Makes an Arrow table of rows that have the same columns; `types` are those of some columns,
    the others' follow from their values."""
    import pyarrow

    listed = list(rows)
    names = list(listed[0]) if listed else list(types)
    return pyarrow.table(
        {name: pyarrow.array([row[name] for row in listed], type=types.get(name)) for name in names}
    )


def _cell(name: str, value: Any, kind: str, lists: bool) -> Any:
    if isinstance(value, int) and not -_WIDEST <= value < _WIDEST:
        raise SteerError(
            f"column {name!r} has a whole number of more than 64 bits ({str(value)[:25]}); export "
            "to .jsonl, or give the schema a maximum"
        )
    if value is None or kind in _PLAIN or (lists and kind.startswith("array of ")):
        return value
    return write_value(value)


def _kind(schema: Any) -> str:
    """What all values of a schema are: string, boolean, integer, number, or "array of" one of
    these; else "mixed". None may be among them."""
    kinds = _kinds(schema) - {"null"}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _kinds(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return {"mixed"}
    if "anyOf" in schema or "oneOf" in schema:
        return {kind for each in schema.get("anyOf") or schema["oneOf"] for kind in _kinds(each)}
    if "enum" in schema or "const" in schema:
        return set(map(_kind_of, schema.get("enum", [schema.get("const")])))
    kinds = schema.get("type", "mixed")
    return {_named(each, schema) for each in (kinds if isinstance(kinds, list) else [kinds])}


def _named(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        inner = _kind(schema.get("items"))
        return f"array of {inner}" if inner in _PLAIN else "mixed"
    return kind if kind in _PLAIN or kind == "null" else "mixed"


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for name, kind in _PLAIN.items() if type(value) is kind), "mixed")

"""Records of several columns: an object a row, written in one way, with the type of each column."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steer.data.reading.rows import shown
from steer.errors import SteerError
from steer.shapes import Shape, write_value

FEW, OFTEN = 20, 5
"""A column of texts is a list of choices if it has at most so many, each as often on average."""

_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_TRUTH = {"true": True, "false": False}


def as_records(
    texts: Sequence[str], given: Shape | None, textual: bool, source: str
) -> tuple[tuple[str, ...], Shape]:
    """Writes objects, read as JSON `texts`, in the one way of a shape: the `given` one, or what
    their columns are like. Cells that are all text (`textual`, as in CSV) become numbers and so on
    where the column has nothing else.

    Raises `SteerError` for a row that does not have the shape.
    """
    rows = [json.loads(text) for text in texts]
    if textual:
        rows = _typed(rows, given.properties if given else {})
    shape = given or Shape("schema", write_value(_of_objects(rows)))
    schema = json.loads(shape.source)
    whole = rows if given else [{name: row.get(name) for name in shape.properties} for row in rows]
    written = tuple(write_value(_ordered(row, schema)) for row in whole)
    wrong = [number for number, text in enumerate(written) if not shape.fits(text)]
    if wrong:
        raise SteerError(
            f"{source}: {len(wrong)} of {len(rows)} rows do not fit the schema, the first is "
            f"number {wrong[0] + 1}: {shown(written[wrong[0]], 80)}; correct them, or give another "
            "--schema"
        )
    return written, shape


def schema_of(values: Iterable[Any]) -> dict[str, Any]:
    """Writes a JSON Schema of what a column's values are like: their type; of texts that are few,
    which, and of others, whether one is empty; of whole numbers, from where to where; of lists,
    how long; None among them is null."""
    known = list(values)
    there = [value for value in known if value is not None]
    if not there:
        return {"type": "null"}
    groups: dict[str, list[Any]] = {}
    for value in there:
        groups.setdefault(_kind(value), []).append(value)
    if set(groups) == {"integer", "number"}:
        groups = {"number": there}
    found = [_of_kind(kind, group) for kind, group in groups.items()]
    if len(there) < len(known):
        found.append({"type": "null"})
    return found[0] if len(found) == 1 else {"anyOf": found}


def _of_kind(kind: str, values: list[Any]) -> dict[str, Any]:
    if kind == "string":
        different = sorted(set(values))
        few = len(different) <= FEW and len(values) >= OFTEN * len(different)
        if few:
            return {"enum": different}
        return {"type": kind} if "" in different else {"type": kind, "minLength": 1}
    if kind == "integer":
        return {"type": kind, "minimum": min(values), "maximum": max(values)}
    if kind == "array":
        items = [item for value in values for item in value]
        sizes = [len(value) for value in values]
        sized = {"type": kind, "minItems": min(sizes), "maxItems": max(sizes)}
        return sized | ({"items": schema_of(items)} if items else {})
    return _of_objects(values) if kind == "object" else {"type": kind}


def _of_objects(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {
        "type": "object",
        "properties": {name: schema_of(row.get(name) for row in rows) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def _ordered(value: Any, schema: Any) -> Any:
    """Puts the keys of objects in the order of their schema's properties."""
    if isinstance(value, list):
        inner = schema.get("items") if isinstance(schema, dict) else None
        return [_ordered(item, inner) for item in value]
    if not isinstance(value, dict):
        return value
    known = (schema.get("properties") if isinstance(schema, dict) else None) or {}
    names = [name for name in known if name in value] + [n for n in value if n not in known]
    return {name: _ordered(value[name], known.get(name)) for name in names}


def _typed(rows: Sequence[Mapping[str, Any]], schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reads the cells of each column as what its schema says, else as what they all are."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    readers = {name: _reader([row.get(name) for row in rows], schemas.get(name)) for name in names}
    return [{name: readers[name](value) for name, value in row.items()} for row in rows]


def _reader(cells: Sequence[Any], schema: Any) -> Any:
    if isinstance(schema, dict) and "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    elif isinstance(schema, dict):
        kinds = [_kind(value) for value in schema.get("enum", ["string"])]
    else:
        kinds = [_kind_of_cells([cell for cell in cells if isinstance(cell, str) and cell])]
    return (lambda cell: cell) if "string" in kinds else lambda cell: _value(cell, kinds)


def _kind_of_cells(cells: Sequence[str]) -> str:
    if cells and all(map(_WHOLE.fullmatch, cells)):
        return "integer"
    if cells and all(map(_NUMBER.fullmatch, cells)):
        return "number"
    return "boolean" if cells and all(c.casefold() in _TRUTH for c in cells) else "string"


def _value(cell: Any, kinds: Sequence[str]) -> Any:
    """The value of a cell; None of an empty one, the cell itself where it is none of `kinds`."""
    if not isinstance(cell, str):
        return cell
    if not cell:
        return None
    if "boolean" in kinds and cell.casefold() in _TRUTH:
        return _TRUTH[cell.casefold()]
    if "integer" in kinds and _WHOLE.fullmatch(cell):
        return int(cell)
    return float(cell) if "number" in kinds and _NUMBER.fullmatch(cell) else cell

"""Records as a table of pandas or datasets, with the columns that an export has."""

from collections.abc import Iterable, Iterator
from typing import Any

from steer.runs.columns import arrow_types, beside, flat_cells, own_columns, to_table
from steer.runs.formats import field_types, flattened
from steer.runs.records import Record
from steer.shapes import Shape


def to_dataset(records: Iterable[Record], shape: Shape | None) -> Any:
    """Makes a `datasets.Dataset`, a row a record; `shape` is that of the records. What is nested in
    a record's own columns is JSON text, but for lists of plain values."""
    import datasets

    rows = [
        beside(flat_cells(own, shape, lists=True), fields) for own, fields in _rows(records, shape)
    ]
    return datasets.Dataset(to_table(rows, field_types() | arrow_types(shape)))


def to_pandas(records: Iterable[Record], shape: Shape | None) -> Any:
    """Makes a `pandas.DataFrame`, a row a record; `shape` is that of the records."""
    import pandas

    return pandas.DataFrame([beside(own, fields) for own, fields in _rows(records, shape)])


def _rows(
    records: Iterable[Record], shape: Shape | None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields each record's own columns and its fields."""
    for record in records:
        yield own_columns(record.text, shape), flattened(record.to_row())

"""Rows of Parquet, Arrow and Hugging Face datasets, batch by batch, with the names of labels."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from steer.data.reading.layout import roots
from steer.data.reading.rows import Row, Rows
from steer.data.reading.settings import Reading
from steer.data.reading.streams import seekable
from steer.errors import SteerError
from steer.values import NOT_OURS

MOST_ROWS = 10_000_000
"""Rows of a Parquet file: a dictionary unpacks to any number of them."""
_BATCH = 1024
Named = Callable[[Any], Any]


def read_parquet(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads the columns of a Parquet file that can be needed. Raises `SteerError` for no Parquet
    file, and for a column name that occurs twice."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(seekable(stream))
        names = tuple(file.schema_arrow.names)
    except (pyarrow.ArrowException, OSError, *NOT_OURS, SystemError) as error:
        raise _damaged(name, "Parquet", error) from None
    if file.metadata.num_rows > MOST_ROWS:
        raise SteerError(
            f"{name} has {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read: write a "
            "part of them"
        )
    columns = _needed(file.schema_arrow, name, reading)
    batches = file.iter_batches(_BATCH, columns=columns)
    rows = _numbered(batches, label_names(file.schema_arrow), name, "Parquet")
    return Rows(name, "row", rows, names)


def read_arrow(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads an Arrow file or stream, as `read_parquet` does; Feather is one."""
    import pyarrow

    file = seekable(stream)
    try:
        start = file.read(6)
        file.seek(0)
        options = pyarrow.ipc.IpcReadOptions()
        if start == b"ARROW1":
            reader = pyarrow.ipc.open_file(file, options=options)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            reader = pyarrow.ipc.open_stream(file, options=options)
            batches = iter(reader)
        names = tuple(reader.schema.names)
    except (pyarrow.ArrowException, OSError, *NOT_OURS, SystemError) as error:
        raise _damaged(name, "Arrow", error) from None
    columns = _needed(reader.schema, name, reading)
    chosen = (batch.select(columns) for batch in batches)
    rows = _numbered(chosen, label_names(reader.schema), name, "Arrow")
    return Rows(name, "row", rows, names)


def read_dataset(dataset: Any, name: str, reading: Reading) -> Rows:
    """Reads a loaded `datasets.Dataset`, as `read_parquet` does."""
    schema = dataset.features.arrow_schema
    columns = _needed(schema, name, reading)
    batches = dataset.select_columns(columns).with_format("arrow").iter(_BATCH)
    rows = _numbered(batches, label_names(schema), name, "dataset")
    return Rows(name, "row", rows, tuple(schema.names))


def label_names(schema: Any) -> dict[str, Named]:
    """Functions that name the class labels (numbers) of a column, where the schema's own metadata
    has their names."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    import datasets

    try:
        features = datasets.Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError):  # written by a version that this one cannot read
        return {}
    named = {column: _namer(feature) for column, feature in features.items()}
    return {column: name for column, name in named.items() if name}


def _namer(feature: Any) -> Named | None:
    """Names the class labels of a feature and within it; -1 and null mean: none, and a number
    without a name stays. None where it has no class labels."""
    if names := getattr(feature, "names", None):
        known = dict(enumerate(names)) | {-1: None}
        return lambda value: known.get(value, value)
    if isinstance(feature, Mapping):
        inner = {key: name for key, each in feature.items() if (name := _namer(each))}
        return (lambda value: value and _named_within(value, inner)) if inner else None
    item = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    within = _namer(item) if item is not None else None
    return (lambda value: value and [within(each) for each in value]) if within else None


def _named_within(value: Mapping[str, Any], named: Mapping[str, Named]) -> dict[str, Any]:
    return {key: named[key](each) if key in named else each for key, each in value.items()}


def _needed(schema: Any, name: str, reading: Reading) -> list[str]:
    """Columns that can be needed: those asked for, or those that may hold texts or turns."""
    import pyarrow.types as kinds

    if twice := [column for column in schema.names if schema.names.count(column) > 1]:
        raise SteerError(f"{name}: the column name {twice[0]!r} occurs twice; rename one")
    asked = roots(reading, schema.names)
    if asked is not None:
        return asked
    texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_dictionary)
    nested = (kinds.is_struct, kinds.is_list, kinds.is_large_list)
    likely = [f.name for f in schema if any(kind(f.type) for kind in (*texts, *nested))]
    label = [reading.label_column] if reading.label_column in schema.names else []
    return list(dict.fromkeys([*likely, *label]))


def _numbered(
    batches: Iterable[Any], named: dict[str, Named], name: str, kind: str
) -> Iterator[tuple[int, Row]]:
    import pyarrow

    number = 0
    try:
        for batch in batches:
            # Arrow takes a file's offsets as they are; a damaged one would end the process.
            batch.validate(full=True)
            columns = {c: batch.column(c).to_pylist() for c in batch.schema.names}
            for column in columns.keys() & named.keys():
                columns[column] = [named[column](value) for value in columns[column]]
            for place in range(batch.num_rows):
                number += 1
                yield number, {column: values[place] for column, values in columns.items()}
    except (pyarrow.ArrowException, OSError, *NOT_OURS, SystemError) as error:
        raise _damaged(f"{name}, after row {number}", kind, error) from None


def _damaged(name: str, kind: str, error: Exception) -> SteerError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return SteerError(
        f"{name} is no valid {kind} file: {lines[0]}; write it again, or name another --format"
    )

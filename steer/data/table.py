"""Columns of texts and labels, from a file or a Hugging Face dataset."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.quiet import quiet_logs

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:.+)?")


@dataclass(frozen=True)
class Table:
    """A table of columns of equal length; `numbers` are the row numbers as a user counts them."""

    source: str
    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    unit: str = "row"

    @property
    def names(self) -> str:
        """Names of the columns, for a message."""
        return _listed(self.columns)

    def where(self, row: int) -> str:
        """Names the place of a row (from 0), for a message."""
        return f"{self.source}: {self.unit} {self.numbers[row]}"

    def column(self, name: str, role: str) -> list[Any]:
        """Gives the values of a column. Raises `SteerError` when there is no such column to take
        the `role` from."""
        if name not in self.columns:
            raise SteerError(
                f"{self.source} has no {role} column {name!r}; its columns: {self.names}"
            )
        return self.columns[name]

    def strings(self, name: str, role: str) -> list[str]:
        """Gives the values of a column of texts. Raises `SteerError` as `column` does, and when a
        value is no string or no valid Unicode."""
        values = self.column(name, role)
        for row, value in enumerate(values):
            self.check_string(row, name, value)
        return values

    def check_string(self, row: int, column: str, value: Any) -> None:
        """Raises `SteerError` when the `value` in a row (from 0) is no string of valid Unicode."""
        if value is None:
            raise SteerError(f"{self.where(row)} has no value in column {column!r}")
        if not isinstance(value, str):
            raise SteerError(
                f"{self.where(row)} has a {type(value).__name__} in column {column!r}, "
                f"not a string: {str(value)[:40]!r}"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SteerError(
                f"{self.where(row)} holds half a character (a lone surrogate) in column {column!r}"
            ) from None


def read_table(source: str) -> Table:
    """Reads a file, or a Hugging Face dataset `name` or `name:split` (default split: train).

    Raises `SteerError` when it cannot be read, has an unknown extension or is damaged.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise SteerError(f"{source} is a folder; name a file in it")
        if path.exists():
            return _read_file(path, suffix)
    except OSError as error:
        raise SteerError(f"cannot read {source}: {error.strerror or error}") from None
    if suffix in _READERS or not _HUB_NAME.fullmatch(source):
        raise SteerError(f"no such file: {source}; check the path")
    return _read_hub(source)


def _read_file(path: Path, suffix: str) -> Table:
    if suffix not in _READERS:
        raise SteerError(
            f"{path} has the unknown extension {suffix or '(none)'}; "
            f"known are {', '.join(_READERS)}"
        )
    return _READERS[suffix](path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields numbered lines. Only newlines end one: JSON strings may hold Unicode's line
    separators."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.split(b"\n"), start=1):
        try:
            yield number, line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise SteerError(
                f"{path}: line {number} is no valid UTF-8 (byte {line[error.start]:#04x} "
                f"at position {error.start + 1}); save the file as UTF-8"
            ) from None


def _read_jsonl(path: Path) -> Table:
    numbers, rows = [], []
    for number, line in _lines(path):
        if line.strip():
            numbers.append(number)
            rows.append(_parse_object(path, number, line))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return Table(str(path), columns, numbers, "line")


def _parse_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SteerError(f"{path}: line {number} is no valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise SteerError(
            f"{path}: line {number} is no JSON object but {type(value).__name__}; "
            'write {"text": "..."} on each line'
        )
    return value


def _read_text(path: Path) -> Table:
    numbered = list(_lines(path))
    while numbered and not numbered[-1][1].strip():
        numbered.pop()
    columns: dict[str, list[Any]] = {"text": [line for _, line in numbered]}
    return Table(str(path), columns, [number for number, _ in numbered], "line")


def _read_csv(path: Path) -> Table:
    content = "\n".join(line for _, line in _lines(path))
    try:
        rows = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row]
    except csv.Error as error:
        raise SteerError(f"{path} is no valid CSV: {error}") from None
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    if len(set(header)) < len(header):
        raise SteerError(f"{path}: a column name occurs twice in the first row: {header}")
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise SteerError(
                f"{path}: row {number} has {len(row)} cells but the first line names "
                f"{len(header)} columns; quote texts that hold commas"
            )
    columns: dict[str, list[Any]] = {n: [row[i] for row in body] for i, n in enumerate(header)}
    return Table(str(path), columns, range(1, len(body) + 1))


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except pyarrow.ArrowException as error:
        raise SteerError(f"{path} is no valid Parquet file: {_one_line(error)}") from None
    return Table(str(path), table.to_pydict(), range(1, table.num_rows + 1))


def _read_hub(source: str) -> Table:
    name, _, split = source.partition(":")
    try:
        return read_hub(name, split or "train")
    except SteerError as error:
        raise SteerError(f"{source} is no file, and {error}") from None


def read_hub(
    name: str, split: str, config: str | None = None, columns: Sequence[str] | None = None
) -> Table:
    """Reads a Hugging Face dataset: `columns` of it, or all those of strings, numbers and labels.

    Raises `SteerError` when it cannot be loaded or has no such column.
    """
    import datasets

    try:
        with quiet_logs():
            dataset = datasets.load_dataset(*filter(None, (name, config)), split=split)
    # The library raises dozens of unrelated types; all mean that the dataset cannot be had.
    except Exception as error:
        raise SteerError(
            f"no Hugging Face dataset can be loaded as {name}, split {split}: {_one_line(error)}"
        ) from None
    features, plain = dataset.features, (datasets.Value, datasets.ClassLabel)
    wanted = columns or [column for column in features if isinstance(features[column], plain)]
    if missing := [column for column in wanted if column not in features]:
        raise SteerError(
            f"{name}:{split} has no column {missing[0]!r}; its columns: {_listed(features)}"
        )
    values = {column: _hub_column(dataset, column, features[column]) for column in wanted}
    return Table(f"{name}:{split}", values, range(1, dataset.num_rows + 1))


def _hub_column(dataset: Any, column: str, feature: Any) -> list[Any]:
    """Gives a column's values; a class label by its name (-1 and null mean: none)."""
    values = list(dataset[column])
    if not hasattr(feature, "int2str"):
        return values
    return [None if value in (None, -1) else feature.int2str(value) for value in values]


_READERS = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".txt": _read_text,
}


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns) or "none"


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""Columns of a task's dataset on the Hugging Face hub."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from steer.data.reading.readers import load_hub
from steer.errors import SteerError


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


def read_hub(
    name: str, split: str, config: str | None = None, columns: Sequence[str] | None = None
) -> Table:
    """Reads a Hugging Face dataset: `columns` of it, or all those of strings, numbers and labels.

    Raises `SteerError` when it cannot be loaded or has no such column.
    """
    import datasets

    dataset = load_hub(name, split, config)
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


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(columns) or "none"

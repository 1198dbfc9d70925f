"""What `steer evaluate --json` wrote, as it is read back; and its table as Markdown for a card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter

from steer.errors import SteerError
from steer.files import read_regular, reading
from steer.runs.formats import markdown
from steer.values import check_values

_FORMAT = r"^\.[0-9][f%]$"


class _Saved(BaseModel):
    """Keys that must be there; newer versions may write more, older ones fewer of those with a
    default."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Estimate(_Saved):
    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    sd: FiniteFloat | None = None
    reason: str | None = None


class _Column(_Saved):
    key: str
    group: str = ""
    title: str
    aim: Literal["higher", "lower", "as real"]
    meaning: str = ""
    format: Annotated[str, Field(pattern=_FORMAT)] = ".3f"


class _Difference(_Saved):
    key: str
    one: str
    other: str
    low: FiniteFloat
    high: FiniteFloat


class _Table(_Saved):
    n: int
    embedder: str
    columns: list[_Column]
    rows: list[dict[str, str | _Estimate]]
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)
    differences: list[_Difference] = Field(default_factory=list)
    verdict: str | None = None


_TABLE = TypeAdapter(_Table)
_DEFAULTS = {
    name: field.default for name, field in _Column.model_fields.items() if not field.is_required()
}


def read_evaluation(path: Path, advice: str) -> dict[str, Any]:
    """Reads the file of an evaluation, as `Evaluation.to_json` gave it; a figure that is no number
    is missing. Raises `SteerError`, which ends with the `advice`, when it is no such file."""
    with reading(path, advice):
        table: dict[str, Any] = json.loads(read_regular(path), parse_constant=lambda _: None)
        check_values(_TABLE, table)
        _check_rows(table["rows"], [column["key"] for column in table["columns"]])
    table["columns"] = [_DEFAULTS | column for column in table["columns"]]
    return table


def _check_rows(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    names = [row.get("name") for row in rows]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("two of its rows have one name, or one has none")
    for row in rows:
        if missing := [key for key in keys if not isinstance(row.get(key), dict)]:
            raise ValueError(f"the row {row['name']!r} lacks the figure {missing[0]!r}")


def measured_table(path: Path) -> str:
    """Writes the measured figures: a line a metric, a column a set, with half the 95% interval.

    Raises `SteerError` when the file cannot be read or is no such table.
    """
    table = read_evaluation(path, "give what steer evaluate --json wrote")
    names = [markdown(row["name"]) for row in table["rows"]]
    if not names:
        raise SteerError(f"{path} has no rows; give what steer evaluate --json wrote")
    lines = [
        f"| {markdown(column['title'])} | "
        + " | ".join(_cell(row[column["key"]], column["format"]) for row in table["rows"])
        + f" | {column['aim']} |"
        for column in table["columns"]
        if any(row[column["key"]]["value"] is not None for row in table["rows"])
    ]
    head = f"| metric | {' | '.join(names)} | better |\n|---|{'---:|' * len(names)}---|"
    about = (
        f"{table['n']} texts of each set against as many real ones; the row `real` is real "
        f"texts against real texts. Embedder: {markdown(table['embedder'])}."
    )
    return "\n".join([about, "", head, *lines])


def _cell(estimate: dict[str, Any], form: str) -> str:
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "-"
    spread = "" if low is None or high is None else f" ±{format((high - low) / 2, form)}"
    return format(value, form) + spread

"""The table that `steer evaluate --json` wrote, as Markdown for a card."""

import json
from pathlib import Path
from typing import Any

from steer.files import reading


def measured_table(path: Path) -> str:
    """Writes the measured figures: a line a metric, a column a set, with half the 95% interval.

    Raises `SteerError` when the file cannot be read or is no such table.
    """
    with reading(path, "give what steer evaluate --json wrote"):
        table: dict[str, Any] = json.loads(path.read_text("utf-8"))
        names = [row["name"] for row in table["rows"]]
        lines = [
            f"| {column['title']} | "
            + " | ".join(_cell(row[column["key"]], column["format"]) for row in table["rows"])
            + f" | {column['aim']} |"
            for column in table["columns"]
            if any(row[column["key"]]["value"] is not None for row in table["rows"])
        ]
        head = f"| metric | {' | '.join(names)} | better |\n|---|{'---:|' * len(names)}---|"
        about = (
            f"{table['n']} texts of each set against as many real ones; the row `real` is real "
            f"texts against real texts. Embedder: {table['embedder']}."
        )
    return "\n".join([about, "", head, *lines])


def _cell(estimate: dict[str, Any], form: str) -> str:
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "-"
    spread = "" if low is None or high is None else f" ±{format((high - low) / 2, form)}"
    return format(value, form) + spread

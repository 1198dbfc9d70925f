"""Files that rows are written to one after the other, so that a million take little memory."""

import csv
import heapq
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from steer.data.characters import printable
from steer.runs.columns import to_table
from steer.runs.records import STREAMS
from steer.seeds import derive

Row = Mapping[str, Any]

SAMPLED = 50
"""Records in a Markdown sample."""

_BATCH = 2_000
_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Writer(Protocol):
    """Writes rows of the same columns to a file."""

    guarded: int
    """Cells that were changed so that a spreadsheet does not run them."""

    def add(self, row: Row) -> None: ...

    def close(self) -> None:
        """Ends the file; it is whole then."""
        ...


class Jsonl:
    """A JSON object a line."""

    guarded = 0

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def add(self, row: Row) -> None:
        self._file.write(json.dumps(dict(row), ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class Csv:
    """A line a record, lists joined by spaces, objects as JSON.

    Text that begins as a formula does would be run by a spreadsheet: with `guard` it gets a single
    quote in front (OWASP, CSV injection).
    """

    def __init__(self, path: Path, guard: bool = True) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._guard, self.guarded = guard, 0
        self._writer: csv.DictWriter[str] | None = None

    def add(self, row: Row) -> None:
        flat = {name: self._cell(value) for name, value in row.items()}
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, fieldnames=list(flat))
            self._writer.writeheader()
        self._writer.writerow(flat)

    def close(self) -> None:
        self._file.close()

    def _cell(self, value: Any) -> Any:
        nested = isinstance(value, list) and any(isinstance(each, Mapping) for each in value)
        if isinstance(value, list) and not nested:
            value = " ".join(map(str, value))
        if nested or isinstance(value, Mapping):
            value = json.dumps(value, ensure_ascii=False)
        if self._guard and isinstance(value, str) and value.startswith(_RUNS):
            self.guarded += 1
            return f"'{value}"
        return value


class Parquet:
    """Columns with types that do not depend on the values, so that parts always fit together; `own`
    are types of the records' own columns."""

    guarded = 0

    def __init__(self, path: Path, own: Mapping[str, Any] | None = None) -> None:
        self._path, self._own = path, dict(own or {})
        self._rows: list[Row] = []
        self._writer: Any = None

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        table = to_table(self._rows, field_types() | self._own)
        if self._writer is None:
            self._writer = self._open(table.schema)
        self._writer.write_table(table)
        self._rows = []

    def _open(self, schema: Any) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetWriter(self._path, schema)


class Arrow(Parquet):
    """The same in Arrow's stream format, which `datasets` maps into memory."""

    def _open(self, schema: Any) -> Any:
        import pyarrow

        return pyarrow.ipc.new_stream(str(self._path), schema)


class Markdown:
    """A sample to read: `SAMPLED` records drawn by their ids, in the order of the run."""

    guarded = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._drawn: list[tuple[int, int, str]] = []
        self._count = 0

    def add(self, row: Row) -> None:
        label = f"**{markdown(str(row['label']))}** " if row.get("label") else ""
        order = -derive(0, "sample", self._count)
        said = f"{label}{_answered(row)}{markdown(str(row['text']))}"
        entry = (order, self._count, said)
        if len(self._drawn) < SAMPLED:
            heapq.heappush(self._drawn, entry)
        else:
            heapq.heappushpop(self._drawn, entry)
        self._count += 1

    def close(self) -> None:
        kept = sorted(self._drawn, key=lambda entry: entry[1])
        title = f"# {len(kept)} of {self._count} synthetic texts\n\n"
        lines = (f"{number}. {text}\n" for number, (_, _, text) in enumerate(kept, 1))
        self._path.write_text(title + "".join(lines), "utf-8")


WRITERS: dict[str, Callable[[Path], Writer]] = {
    ".jsonl": Jsonl,
    ".csv": Csv,
    ".parquet": Parquet,
    ".md": Markdown,
}


def flattened(row: Row) -> dict[str, Any]:
    """Gives the log-probabilities columns of their own, and the settings as JSON text."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "log_probs":
            flat |= {f"log_prob_{stream}": value.get(stream) for stream in STREAMS}
        elif name == "settings":
            flat[name] = json.dumps(value, ensure_ascii=False)
        else:
            flat[name] = value
    flat.setdefault("score", None)
    return flat


def field_types() -> dict[str, Any]:
    """Types of the columns that may be all null or empty in one part; steer_NAME is NAME beside a
    record's own column of that name."""
    types = _types()
    return types | {f"steer_{name}": kind for name, kind in types.items()}


def _types() -> dict[str, Any]:
    import pyarrow

    ids = pyarrow.list_(pyarrow.string())
    types: dict[str, Any] = {"panel": ids, "positive": ids}
    types |= {name: pyarrow.string() for name in ("label", "method", "expert")}
    types["score"] = pyarrow.float64()
    near = {"ids": pyarrow.list_(pyarrow.int64()), "distances": pyarrow.list_(pyarrow.float64())}
    turn = {"role": pyarrow.string(), "content": pyarrow.string()}
    types["messages"] = pyarrow.list_(pyarrow.struct(turn))
    types["asked"] = pyarrow.string()
    types["neighbors"] = pyarrow.struct(near)
    return types | {f"log_prob_{name}": pyarrow.float64() for name in STREAMS}


def _answered(row: Row) -> str:
    """What an answer in a chat answers, in italics on a line of its own."""
    turns = row.get("messages", ())[:-1]
    return f"*{markdown(turns[-1]['content'].strip())}*<br>" if turns else ""


def markdown(text: str) -> str:
    """Keeps a text from being read as Markdown or HTML, also in a cell of a table."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    for sign in ("\\", "`", "*", "_", "[", "]", ">", "#", "|", "~", "!"):
        text = text.replace(sign, f"\\{sign}")
    return "<br>".join(printable(line) for line in text.splitlines())

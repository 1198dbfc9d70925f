"""Sources as people have them: cases of the tables in `read_right` and `refused`, and what makes
them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import openpyxl
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet

TEXTS = ("Was, ist „das“; ja?", 'two\nlines\t"quoted"', "  indented\u2028 ", "日本語の文です。")
LINES = ("Was, ist „das“; ja?", 'a "quoted" word', "  indented\u2028 ", "日本語の文です。")
LABELS = ("a", "b", "a", "b")
WESTERN = ("Grüße, naïve café", "“quoted” … 5 €", "Ça va être l'été à Orléans")
LONG = "long " * 40_000
LENGTHS = tuple("x" * length for length in (101, 103, 103))

Make = bytes | str | Callable[[Path], Any]


class Case(NamedTuple):
    """A source made in a folder: a file of that name and content, or what a function makes."""

    name: str
    file: str
    content: Make
    options: str = ""
    texts: Sequence[str] = ()
    labels: Sequence[str] | None = None
    says: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = "$d/FILE"


def rows(texts: Sequence[str] = TEXTS, **more: Sequence[Any]) -> list[dict[str, Any]]:
    columns = {"text": texts, **more}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def jsonl(items: Sequence[Any], end: str = "\n") -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + end for item in items)


def table(separator: str = ",", texts: Sequence[str] = TEXTS, end: str = "\n") -> str:
    lines = (
        f'"{t.replace(chr(34), 2 * chr(34))}"{separator}{label}'
        for t, label in zip(texts, LABELS, strict=False)
    )
    return end.join((f"text{separator}kind", *lines, ""))


def cells(*lines: Sequence[Any]) -> str:
    """Writes rows of CSV, with quotation marks where they are needed."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def frame() -> pandas.DataFrame:
    return pandas.DataFrame({"text": TEXTS, "kind": LABELS})


def arrow(**columns: Sequence[Any]) -> pyarrow.Table:
    return pyarrow.table({name: list(values) for name, values in columns.items()})


def labelled() -> datasets.Dataset:
    features = {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["a", "b"])}
    values = {"text": list(TEXTS), "kind": [0, 1, 0, 1]}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def parquet(made: pyarrow.Table) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(made, out)
    return out.getvalue()


def arrow_stream(made: pyarrow.Table) -> bytes:
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, made.schema) as writer:
        writer.write_table(made)
    return out.getvalue()


def outside(made: bytes | None = None) -> bytes:
    """Lets the second of three texts of an Arrow file end 2^30 bytes on, where nothing is."""
    made = made or arrow_stream(arrow(text=LENGTHS))
    was, now = (np.array([0, 101, end, 307], "<i4").tobytes() for end in (204, 1 << 30))
    assert made.count(was) == 1
    return made.replace(was, now)


def outside_saved(folder: Path) -> None:
    datasets.Dataset.from_dict({"text": list(LENGTHS)}).save_to_disk(str(folder / "FILE"))
    (path,) = (folder / "FILE").glob("*.arrow")
    path.write_bytes(outside(path.read_bytes()))


def zstd(content: bytes) -> bytes:
    return pyarrow.compress(content, "zstd", asbytes=True)


def book(*sheets: Sequence[Sequence[Any]], names: Sequence[str] = ("First", "Second")) -> bytes:
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, lines in zip(names, sheets, strict=False):
        sheet = made.create_sheet(name)
        for line in lines:
            sheet.append(list(line))
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def edited(made: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """Changes what a workbook's sheets have in XML, as programs other than openpyxl write it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            for was, now in changes:
                content = content.replace(was, now)
            new.writestr(entry, content)
    return out.getvalue()


def files(**contents: str | bytes) -> Callable[[Path], None]:
    """Makes several files; `__` in a name stands for a folder, a last `_` for the dot."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            path = folder / (name.replace("__", "/")[::-1].replace("_", ".", 1)[::-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def saved(folder: Path) -> None:
    labelled().save_to_disk(str(folder / "FILE"))


def saved_splits(folder: Path) -> None:
    splits = {"train": labelled(), "test": labelled().select([1])}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "FILE"))


def dataset_parquet(folder: Path) -> None:
    labelled().to_parquet(str(folder / "FILE"))


def nested_labels(folder: Path) -> None:
    kind = datasets.ClassLabel(names=["no", "yes"])
    rows = [
        {"text": text, "one": {"kind": n}, "several": [n], "objects": [{"kind": n}]}
        for text, n in (("a", 1), ("b", 0))
    ]
    features = {
        "text": datasets.Value("string"),
        "one": {"kind": kind},
        "several": datasets.Sequence(kind),
        "objects": [{"kind": kind}],
    }
    made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    made.to_parquet(str(folder / "FILE"))


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}
PLAIN: dict[str, tuple[str, Sequence[str]]] = {
    "jsonl": (jsonl(rows(kind=LABELS)), TEXTS),
    "json": (json.dumps(rows(kind=LABELS), ensure_ascii=False, indent=1), TEXTS),
    "csv": (table(), TEXTS),
    "tsv": (table("\t", LINES), LINES),
    "txt": ("\n".join(LINES), LINES),
}
KIND = "--label-column kind"
TURNS = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "Really?"},
    {"role": "assistant", "content": "Yes,\nreally."},
]


def same(kind: str) -> dict[str, Any]:
    labels = None if kind == "txt" else LABELS
    return {"texts": PLAIN[kind][1], "labels": labels, "options": KIND if labels else ""}

"""Rows of whatever a source names: each kind of file by its reader."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer.data.reading.columnar import read_arrow, read_dataset, read_parquet
from steer.data.reading.delimited import names_columns, read_delimited
from steer.data.reading.objects import read_json, read_jsonl
from steer.data.reading.oddities import signs_in_lines
from steer.data.reading.rows import Rows, shown
from steer.data.reading.settings import Reading
from steer.data.reading.sheets import read_xlsx
from steer.data.reading.sources import KINDS, Part, file_kind, find_parts
from steer.data.reading.streams import (
    LONGEST,
    STANDARD_INPUT,
    Lines,
    head,
    open_stream,
    source_name,
)
from steer.errors import SteerError
from steer.quiet import quiet_logs

# First bytes of formats that are no text.
_MAGIC = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive; unpack it, or give --format xlsx if it is an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Office file; save it as .xlsx or CSV",
    b"%PDF": "a PDF; take its text out first",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"\x80\x04": "a Python pickle, which can run code; save the texts as JSONL",
    b"\x1f\x9d": "compressed (.Z); decompress it first",
    b"\x04\x22\x4d\x18": "compressed (LZ4); decompress it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"{\\rtf": "rich text (RTF); save it as plain text",
}


_NOT_WHOLE = "--whole-files reads plain text: give --format txt if it is, or leave it out"
_WHOLE = "read each file as one text with --whole-files, take such lines out"


def open_rows(source: str, reading: Reading, notes: list[str]) -> Iterator[Rows]:
    """Yields the rows of each file or dataset that the source names; `notes` takes what was left
    out. Raises `SteerError` when one cannot be read."""
    parts = find_parts(source, notes)
    documents = not reading.whole_files and _are_documents(parts, reading)
    if documents:
        notes.append(
            f"{source}: each line of {len(parts)} files is a text; --whole-files reads each file "
            "as one"
        )
    for part in parts:
        try:
            rows = _open_file(part, reading) if part.kind == "file" else _open_set(part, reading)
        except OSError as error:
            reason = error.strerror or error
            raise SteerError(f"cannot read {part.place}: {reason}; check the file") from None
        yield replace(rows, advice=_WHOLE) if documents else rows


def _are_documents(parts: Sequence[Part], reading: Reading) -> bool:
    """Whether there are several files of plain text, and most have several lines: each may be one
    text. A few files tell."""
    files = [Path(part.place) for part in parts if part.kind == "file"]
    if len(files) < 2 or {reading.format or file_kind(path) for path in files} != {"txt"}:
        return False
    some = files[:: -(-len(files) // 20)]
    long = [len(head(open_stream(path)).strip().splitlines()) > 1 for path in some]
    return sum(long) > len(some) / 2


def load_hub(name: str, split: str, config: str | None = None) -> Any:
    """Loads a `datasets.Dataset` of the Hugging Face hub; raises `SteerError` if that fails."""
    import datasets

    try:
        with quiet_logs():
            return datasets.load_dataset(*filter(None, (name, config)), split=split)
    # The library raises dozens of unrelated types; all mean that the dataset cannot be had.
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise SteerError(
            f"no Hugging Face dataset can be loaded as {name}, split {split}: {reason}"
        ) from None


def _open_set(part: Part, reading: Reading) -> Rows:
    if reading.whole_files:
        raise SteerError(f"{_dataset_name(part)} is a dataset; {_NOT_WHOLE}")
    return read_dataset(_load(part), _dataset_name(part), reading)


def _load(part: Part) -> Any:
    if part.kind == "hub":
        try:
            return load_hub(part.place, part.name or "train")
        except SteerError as error:
            raise SteerError(f"{_dataset_name(part)} is no file, and {error}") from None
    import datasets

    try:
        with quiet_logs():
            return datasets.load_from_disk(part.place)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SteerError(f"{part.place} is no dataset saved to disk: {lines[0]}") from None


def _dataset_name(part: Part) -> str:
    return f"{part.place}:{part.name}" if part.name else part.place


def _open_file(part: Part, reading: Reading) -> Rows:
    path = Path(part.place)
    name = source_name(path)
    stream = open_stream(path)
    kind = reading.format or file_kind(path)
    found = _by_content(head(stream), name, kind)
    if kind is None and part.place == STANDARD_INPUT:
        kind = found
    if kind is None:
        raise SteerError(_unknown(path, name, found))
    if reading.whole_files and kind != "txt":
        raise SteerError(f"{name} is a file of {kind}; {_NOT_WHOLE}")
    if part.name is not None:
        if kind != "xlsx":
            raise SteerError(f"no such file: {part.place}:{part.name}; check the path")
        return read_xlsx(stream, f"{name}:{part.name}", reading, part.name)
    if kind == "tsv":
        return read_delimited(stream, name, reading, "\t")
    if reading.whole_files:
        return _read_whole(stream, name, reading)
    return _READERS[kind](stream, name, reading)


def _by_content(start: bytes, name: str, kind: str | None) -> str | None:
    """Format that the first bytes tell, if they do. Raises `SteerError` when it is not the `kind`
    that was expected, or is none that can be read."""
    for magic, found in _MAGIC.items():
        if start.startswith(magic):
            if kind not in (None, found):
                raise SteerError(f"{name} is not {kind} but {found}; give --format {found}")
            return found
    for magic, what in _OTHERS.items():
        if start.startswith(magic) and kind != "xlsx":
            raise SteerError(f"{name} is {what}")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return {b"{": "jsonl", b"[": "json"}.get(text[:1])


def _unknown(path: Path, name: str, found: str | None) -> str:
    guess = f"; it looks like --format {found}" if found else ""
    if str(path) == STANDARD_INPUT:
        return f"{name} may be of any kind{guess}; say which with --format, such as csv or txt"
    ending = path.suffix or "(none)"
    return (
        f"{name} has the unknown extension {ending}{guess}; give --format, such as csv or txt "
        f"(known are {', '.join(KINDS)})"
    )


def _read_text(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads a text a line; blank lines at the end are no rows."""
    lines = Lines(stream, name, reading.encoding)
    start = head(stream).decode(reading.encoding or "utf-8", "replace").removeprefix("\ufeff")
    first = start.splitlines()[:100] or [""]
    if start.startswith('{"'):
        lines.notes.append(f"{name}: lines of JSON are read as texts; --format jsonl reads in them")
    elif re.match(r'\[\s*["{]', start):
        lines.notes.append(f"{name}: JSON is read by lines; --format json reads in it")
    elif sign := signs_in_lines(first):
        lines.notes.append(f"{name}: {sign}")
    elif names_columns(first[0]):
        found = shown(first[0])
        lines.notes.append(
            f"{name}: each line is a text, the first is {found}; --format csv reads columns"
        )
    return Rows(name, "line", _lines(lines), ("text",), lines.notes)


def _read_whole(stream: io.BufferedReader, name: str, reading: Reading) -> Rows:
    """Reads a file as one text, without the line end at its end; the column `folder` names the one
    that it is in."""
    lines = Lines(stream, name, reading.encoding, ends=True)
    return Rows(name, "text", _whole(lines, name), ("text", "folder"), lines.notes)


def _whole(lines: Lines, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    text, size = [], 0
    for line in lines:
        text.append(line)
        size += len(line)
        if size > LONGEST:
            raise SteerError(f"{name} has over {LONGEST:,} characters; cut it into several files")
    whole = re.sub(r"(\r\n|\r|\n)\Z", "", "".join(text))
    yield 1, {"text": whole, "folder": Path(name).absolute().parent.name}


def _lines(lines: Lines) -> Iterator[tuple[int, dict[str, str]]]:
    blank: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(lines, start=1):
        blank.append((number, {"text": line}))
        if line.strip():
            yield from blank
            blank.clear()


_READERS = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_delimited,
    "txt": _read_text,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "xlsx": read_xlsx,
}

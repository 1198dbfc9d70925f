"""Rows of Excel workbooks (.xlsx), for which the extra `xlsx` is installed."""

import io
import re
import zipfile
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from steer.data.reading.header import split_header
from steer.data.reading.rows import Row, Rows
from steer.data.reading.settings import Reading
from steer.data.reading.streams import ALWAYS, EXPANSION, seekable
from steer.errors import SteerError

_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_xlsx(
    stream: io.BufferedReader, name: str, reading: Reading, sheet: str | None = None
) -> Rows:
    """Reads a sheet of a workbook row by row: values, not formulas. Raises `SteerError` when there
    are several sheets and none is named."""
    try:
        import openpyxl
    except ImportError:
        raise SteerError(
            f"{name} is an Excel workbook; pip install openpyxl, or save the sheet as CSV"
        ) from None
    file = seekable(stream)
    _refuse_bomb(file, name)
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # of many kinds, some its own and some of what it stands on
        raise SteerError(f"{name} is no valid .xlsx file: {error}; save it again") from None
    chosen = _choose(book, name, sheet)
    body = enumerate(chosen.iter_rows(values_only=True), start=1)
    filled = ((number, row) for number, row in body if any(cell is not None for cell in row))
    first = list(islice(filled, 100))
    cells = [["" if cell is None else str(cell) for cell in row] for _, row in first]
    notes: list[str] = []
    header, taken = split_header(cells, name, reading, notes)
    rows = _named(chain(first[taken:], filled), header)
    return Rows(name, "row", rows, tuple(filter(None, header)), notes)


def _refuse_bomb(file: Any, name: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            packed = sum(entry.compress_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise SteerError(f"{name} is no valid .xlsx file: {error}; save it again") from None
    file.seek(0)
    if size > max(ALWAYS, EXPANSION * packed):
        raise SteerError(f"{name} would take {size:,} bytes unpacked; save the sheet as CSV")


def _choose(book: Any, name: str, sheet: str | None) -> Any:
    # A sheet that is only drawn on has no rows.
    sheets = [each for each in book.worksheets if next(_filled(each), None)]
    if not sheets:
        return book.worksheets[0]
    names = ", ".join(each.title for each in sheets)
    if sheet is None and len(sheets) > 1:
        raise SteerError(f"{name} has the sheets {names}; name one, as {name}:{sheets[0].title}")
    found = [each for each in sheets if sheet in (None, each.title)]
    if not found:
        raise SteerError(f"{name} has no sheet {sheet!r} with rows; its sheets: {names}")
    return found[0]


def _filled(sheet: Any) -> Iterator[Any]:
    return (row for row in sheet.iter_rows(values_only=True) if any(c is not None for c in row))


def _named(rows: Iterator[tuple[int, Any]], header: list[str]) -> Iterator[tuple[int, Row]]:
    for number, row in rows:
        cells = zip(header, map(_unescaped, row), strict=False)
        yield number, {name: cell for name, cell in cells if name}


def _unescaped(cell: Any) -> Any:
    """A cell without the escapes of ECMA-376 (22.9.2.19), such as _x000D_, that Excel writes for
    what XML cannot hold."""
    if not isinstance(cell, str):
        return cell
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), cell)

"""Rows of Excel workbooks (.xlsx), for which the extra `xlsx` is installed."""

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, islice, repeat
from typing import Any

from steer.data.reading.header import split_header
from steer.data.reading.rows import NoValue, Row, Rows, shown
from steer.data.reading.settings import Reading
from steer.data.reading.streams import ALWAYS, EXPANSION, seekable
from steer.errors import SteerError

# The error values of Excel: those of ECMA-376 (18.17.3), and newer ones.
_ERRORS = frozenset(
    (
        *("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA"),
        *("#SPILL!", "#CALC!", "#FIELD!", "#BLOCKED!", "#CONNECT!", "#UNKNOWN!"),
    )
)
Numbered = Iterator[tuple[int, tuple[Any, ...]]]
_FORMULA = re.compile(rb"<(\w+:)?f[ />]")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_xlsx(
    stream: io.BufferedReader, name: str, reading: Reading, sheet: str | None = None
) -> Rows:
    """Reads a sheet of a workbook row by row: values, not formulas; a formula that has none, and an
    error such as #N/A, is a `NoValue`. Raises `SteerError` when there are several sheets and none
    is named."""
    filled = _choose(_open(seekable(stream), name), name, sheet)
    first = list(islice(filled, 100))
    cells = [[_name(cell) for cell in row] for _, row in first]
    notes: list[str] = []
    header, taken = split_header(cells, name, reading, notes)
    rows = _named(chain(first[taken:], filled), header)
    return Rows(name, "row", rows, tuple(filter(None, header)), notes)


def _open(file: Any, name: str) -> dict[str, Callable[[], Numbered]]:
    """Opens a workbook; gives by the title of each sheet what begins to read its filled rows."""
    try:
        import openpyxl
    except ImportError:
        raise SteerError(
            f"{name} is an Excel workbook; pip install openpyxl, or save the sheet as CSV"
        ) from None
    formulas = _has_formulas(file, name)
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        other = openpyxl.load_workbook(file, read_only=True) if formulas else None
    except Exception as error:  # of many kinds, some its own and some of what it stands on
        raise SteerError(f"{name} is no valid .xlsx file: {error}; save it again") from None
    pairs = zip(book.worksheets, other.worksheets if other else repeat(None), strict=False)
    return {sheet.title: partial(_filled, sheet, source) for sheet, source in pairs}


def _has_formulas(file: Any, name: str) -> bool:
    """Whether a sheet may have a formula. Raises `SteerError` for what is no workbook, or unpacks
    to far too much."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            if size > max(ALWAYS, EXPANSION * sum(entry.compress_size for entry in entries)):
                raise SteerError(
                    f"{name} would take {size:,} bytes unpacked; save the sheet as CSV"
                )
            sheets = [each for each in entries if each.filename.startswith("xl/worksheets/")]
            return any(
                _FORMULA.search(piece) for each in sheets for piece in _pieces(archive, each)
            )
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SteerError(f"{name} is no valid .xlsx file: {error}; save it again") from None
    finally:
        file.seek(0)


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields a file of an archive in pieces, each with the end of the one before it."""
    end = b""
    with archive.open(entry) as file:
        while piece := file.read(2**20):
            yield end + piece
            end = piece[-64:]


def _choose(sheets: Mapping[str, Callable[[], Numbered]], name: str, sheet: str | None) -> Numbered:
    # A sheet that is only drawn on has no rows.
    filled = [title for title, begin in sheets.items() if next(begin(), None)]
    if not filled:
        return iter(())
    names = ", ".join(filled)
    if sheet is None and len(filled) > 1:
        raise SteerError(f"{name} has the sheets {names}; name one, as {name}:{filled[0]}")
    if sheet is not None and sheet not in filled:
        raise SteerError(f"{name} has no sheet {sheet!r} with rows; its sheets: {names}")
    return sheets[sheet or filled[0]]()


def _filled(sheet: Any, source: Any) -> Numbered:
    """Yields the rows of a sheet that have a value; `source` is the same sheet with formulas."""
    # What a file says of its own size is not always true.
    sheet.reset_dimensions()
    if source is None:
        rows = (tuple(map(_value, row)) for row in sheet.iter_rows(values_only=True))
    else:
        source.reset_dimensions()
        pairs = zip(sheet.iter_rows(), source.iter_rows(values_only=True), strict=True)
        rows = (tuple(map(_found, cells, formulas)) for cells, formulas in pairs)
    for number, row in enumerate(rows, start=1):
        if any(cell is not None for cell in row):
            yield number, row


def _found(cell: Any, formula: Any) -> Any:
    """The value of a cell, or that its formula has none; an empty text is kept as type "str"."""
    if cell.value is not None or formula is None or cell.data_type == "str":
        return _value(cell.value)
    written = getattr(formula, "text", formula)  # of a range of cells
    return NoValue(
        f"the formula {shown(written)} without its value",
        "open and save the file in a spreadsheet program",
    )


def _value(value: Any) -> Any:
    if isinstance(value, str) and value in _ERRORS:
        return NoValue(f"the error value {value}", "correct such cells")
    return value


def _name(cell: Any) -> str:
    return "" if cell is None or isinstance(cell, NoValue) else str(cell)


def _named(rows: Numbered, header: list[str]) -> Iterator[tuple[int, Row]]:
    for number, row in rows:
        whole = chain(map(_unescaped, row), repeat(None))
        yield number, {name: cell for name, cell in zip(header, whole, strict=False) if name}


def _unescaped(cell: Any) -> Any:
    """A cell without the escapes of ECMA-376 (22.9.2.19), such as _x000D_, that Excel writes for
    what XML cannot hold."""
    if not isinstance(cell, str):
        return cell
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), cell)

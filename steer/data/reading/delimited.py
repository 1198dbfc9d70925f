"""Rows of CSV and TSV: the separator found, or asked for; a header row never lost."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from steer.data.reading.header import is_header, split_header
from steer.data.reading.rows import Row, Rows, shown
from steer.data.reading.settings import Reading
from steer.data.reading.streams import LONGEST, Lines
from steer.errors import SteerError, counted

SEPARATORS = (",", ";", "\t", "|")
_SAMPLE_ROWS, _SAMPLE_CHARS = 100, 2**20
_SEP = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
_DASHES = re.compile(r"\s*:?[-=]{2,}[-=+\s]*:?\s*")
_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe"}


@dataclass(frozen=True)
class _Form:
    """How cells are written: what ends one, the mark that holds one together ("" if none does), and
    whether spaces may stand before that mark."""

    separator: str
    mark: str = '"'
    spaced: bool = False


def read_delimited(
    stream: io.BufferedReader, name: str, reading: Reading, usual: str = ","
) -> Rows:
    """Reads cells between separators, in quotes or not; `usual` is the separator of files named
    like this one. Raises `SteerError` when it may be one or another, or the first row a header or
    a text."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    found = Lines(stream, name, reading.encoding, ends=True)
    lines = iter(found)
    sample = list(_sample(lines))
    separator = reading.separator
    if sample and (said := _SEP.fullmatch(sample[0])):
        del sample[0]
        separator = separator or said[1]
    form = _find_form(sample, name, reading.model_copy(update={"separator": separator}), usual)
    cells = _cells(chain(sample, lines), form, name, reading)
    first = list(_take(cells, _SAMPLE_ROWS))
    header, taken = split_header(first, name, reading, found.notes)
    found.notes += _said(form, name, reading, usual)
    _check_drawn(first[taken : taken + 1], name)
    rows = _rows(chain(first[taken:], cells), header, name, form.separator, found.notes)
    return Rows(name, "row", rows, tuple(filter(None, header)), found.notes, textual=True)


def names_columns(line: str) -> bool:
    """Whether a line of plain text is a header of CSV: several cells, usual names among them."""
    cells = [[cell.strip(' "') for cell in line.split(each)] for each in SEPARATORS]
    return any(len(names) > 1 and is_header(names, (), Reading()) for names in cells)


def _sample(lines: Iterator[str]) -> Iterator[str]:
    """Takes lines for 100 rows or more, but no more than a megabyte and a line."""
    size = 0
    for line in lines:
        yield line
        size += len(line)
        if size > _SAMPLE_CHARS:
            return


def _take(cells: Iterator[list[str]], count: int) -> Iterator[list[str]]:
    for _ in range(count):
        if (row := next(cells, None)) is None:
            return
        yield row


def _check_drawn(body: Sequence[Sequence[str]], name: str) -> None:
    """Raises `SteerError` where a line of dashes follows the names, as in tables for readers."""
    filled = [cell for row in body for cell in row if cell.strip()]
    if filled and all(map(_DASHES.fullmatch, filled)):
        raise SteerError(
            f"{name}: row 1 is a line of dashes: {shown(filled[0])}; such a table is drawn for "
            "readers, and spaces stand around its cells: write it as CSV"
        )


def _find_form(sample: Sequence[str], name: str, reading: Reading, usual: str) -> _Form:
    """Finds the separator and the mark: single quotes where most rows have a cell in them."""
    marks = ['"'] if reading.quotes is not False else [""]
    given = [reading.separator] if reading.separator else SEPARATORS
    if reading.quotes is None and any(_is_single(sample, each) for each in given):
        marks.insert(0, "'")
    for mark in marks:
        separator = reading.separator or _find_separator(sample, name, reading, usual, mark)
        if mark != "'" or _is_single(sample, separator):
            break
    return _Form(separator, mark, _is_spaced(sample, separator, mark))


def _is_single(sample: Sequence[str], separator: str) -> bool:
    """Whether most rows have a cell in single quotes, and hardly any cell begins or ends with one
    that has no other."""
    text, end = "".join(sample), re.escape(separator)
    if "'" not in text:
        return False
    begin = rf"(?:^|(?<={end})) *+"
    cell = rf"{begin}(?:\"(?:[^\"]|\"\")*+\"|'(?:[^'\\]|''|\\.)*+' *+(?=[{end}\r\n]|\Z))"
    whole = re.compile(cell, re.MULTILINE | re.DOTALL)
    count = sum(match[0].lstrip(" ").startswith("'") for match in whole.finditer(text))
    rest = whole.sub("", text)
    odd = len(re.findall(rf"{begin}'|'(?=[{end}\r\n]|\Z)", rest, re.MULTILINE))
    return count * 2 > max(1, len(rest.splitlines()) - 1) and odd * 10 <= count


def _is_spaced(sample: Sequence[str], separator: str, mark: str) -> bool:
    """Whether in most rows a space stands between a separator and the quotation mark of a cell, as
    some programs write it."""
    if not mark:
        return False
    rows = [row for row in csv.reader(sample, delimiter=separator, quotechar=mark) if row]
    spaced = [any(re.match(f" +{mark}", cell) for cell in row[1:]) for row in rows]
    return sum(spaced) > len(rows) / 2


def _said(form: _Form, name: str, reading: Reading, usual: str) -> Iterator[str]:
    """Says what was found that the file's name does not tell."""
    if form.separator != usual and reading.separator is None:
        yield f"{name}: cells end with a {_NAMES.get(form.separator, form.separator)}"
    if form.mark == "'":
        yield f"{name}: single quotes around cells are no part of them; --no-quotes keeps them"
    if form.spaced:
        yield f"{name}: spaces before quotation marks are no part of the cells"


def _cells(lines: Iterable[str], form: _Form, name: str, reading: Reading) -> Iterator[list[str]]:
    """Yields the cells of each row that is no blank line."""
    reader = csv.reader(
        lines,
        delimiter=form.separator,
        quotechar=form.mark or None,
        skipinitialspace=form.spaced,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if form.mark else csv.QUOTE_NONE,
    )
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise SteerError(
                f"{name} is no valid CSV at line {reader.line_num}: {error}; if quotation marks "
                f"are part of the texts, give --no-quotes; those within quoted texts are written "
                f"{form.mark * 2}"
            ) from None
        if row is None:
            return
        if row:
            _check_quotes(row, form.separator, reader.line_num, name, reading)
            yield row


def _check_quotes(row: list[str], separator: str, line: int, name: str, reading: Reading) -> None:
    """Raises `SteerError` where a quotation mark that opens a text may have swallowed rows: files
    with tabs often have such marks, and no quoting."""
    if separator != "\t" or reading.quotes is not None:
        return
    for cell in row:
        if "\t" in cell and "\n" in cell:
            raise SteerError(
                f"{name}: a cell that ends at line {line} holds tabs and line ends: {shown(cell)}; "
                "give --no-quotes if quotation marks are part of the texts, else --quotes"
            )


def _find_separator(
    sample: Sequence[str], name: str, reading: Reading, usual: str, mark: str
) -> str:
    """Finds the one separator that cuts all rows of the sample into equally many cells."""
    rows = {each: _try(sample, each, reading, mark) for each in SEPARATORS}
    even = [each for each in SEPARATORS if _width(rows[each]) > 1]
    if len(even) == 1:
        return even[0]
    if usual in even and usual != ",":  # as the file's own ending says
        return usual
    first = (rows[usual] or [[]])[0]
    others = [each for each in SEPARATORS if each != usual and each in "".join(first)]
    if even or (len(first) == 1 and others):
        names = " or ".join(_NAMES[each] for each in even or (usual, *others))
        raise SteerError(
            f"{name}: cells may end with a {names} (first row: {shown(''.join(sample[:1]).strip())}"
            "); say which with --separator"
        )
    return usual


def _try(sample: Sequence[str], separator: str, reading: Reading, mark: str) -> list[list[str]]:
    """The sample's rows with that separator, without the last one if it may go on; none if they are
    no valid CSV."""
    try:
        form = _Form(separator, mark, _is_spaced(sample, separator, mark))
        rows = list(_cells(sample, form, "", reading))
    except SteerError:
        return []
    return rows[:-1] if sum(map(len, sample)) > _SAMPLE_CHARS else rows


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Number of cells of every row; 0 where they differ."""
    widths = set(map(len, rows))
    return widths.pop() if len(widths) == 1 else 0


def _rows(
    body: Iterable[list[str]],
    header: Sequence[str],
    name: str,
    separator: str,
    notes: list[str],
) -> Iterator[tuple[int, Row]]:
    """Yields rows by the names of their columns; those without a name, such as an index that
    pandas wrote, are left out. At the end `notes` takes how many rows are the header again."""
    again = 0
    for number, row in enumerate(body, start=1):
        if len(row) != len(header) and any(row[len(header) :] or ["short"]):
            raise SteerError(
                f"{name}: row {number} has {len(row)} cells but the first row has {len(header)}; "
                f"quote texts that hold a {_NAMES.get(separator, separator)}, or name another "
                "--separator"
            )
        if row and row[0].strip(" \ufeff") == header[0]:
            again += [cell.strip(" \ufeff") for cell in row] == header
        yield number, {column: cell for column, cell in zip(header, row, strict=False) if column}
    if again:
        notes.append(
            f"{name}: the names of the columns stand again in {counted(again, 'row')}, as in files "
            "that were joined; take out what is no text"
        )

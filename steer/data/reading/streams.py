"""Bytes and lines of a file: decompressed, decoded, and never more than a limit."""

import bz2
import gzip
import io
import lzma
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from steer.data.reading.rows import shown
from steer.errors import SteerError

STANDARD_INPUT = "-"
EXPANSION, ALWAYS = 200, 2**30
"""A compressed file may hold so many times its own bytes, or so many where that is more."""
LONGEST = 2**26
"""Characters that a line, or a cell, may have at most."""
_HEAD = 2**16

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_LINE_END = re.compile(rb"\r\n|\r|\n")


def open_stream(path: Path) -> io.BufferedReader:
    """Opens a file, or standard input, to read what it holds; a compressed one is decompressed,
    whatever its name. Raises `SteerError` while it is read if it is damaged or far too large."""
    name = source_name(path)
    if str(path) != STANDARD_INPUT and not path.is_file():
        raise SteerError(f"{path} is no regular file; pipe it into {STANDARD_INPUT}, as cat does")
    file = _spooled() if str(path) == STANDARD_INPUT else cast(BinaryIO, path.open("rb"))
    head = file.read(8)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    for magic, opened in _PACKERS.items():
        if head.startswith(magic):
            limit = max(ALWAYS, EXPANSION * size)
            return io.BufferedReader(_Limited(opened(file), limit, name), _HEAD)
    return io.BufferedReader(_Limited(file, sys.maxsize, name), _HEAD)


def source_name(path: Path) -> str:
    """Names a file in messages."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def head(stream: io.BufferedReader) -> bytes:
    """Looks at the first bytes of a stream, at most 65,536, and leaves them there."""
    return stream.peek(_HEAD)


def seekable(stream: io.BufferedReader) -> BinaryIO:
    """Gives what a stream holds as a file to move about in: itself, or a temporary copy."""
    if stream.seekable():
        return cast(BinaryIO, stream)
    return _spooled(stream)


class Lines:
    """Decoded lines of a stream, to be iterated once; `notes` say which encoding was found.

    With `ends` each line keeps its end (as CSV needs), otherwise it goes. A line ends with LF, CR
    LF or CR; other characters, such as Unicode's line separators, do not end one.
    """

    def __init__(
        self, stream: io.BufferedReader, name: str, encoding: str | None, *, ends: bool = False
    ) -> None:
        self.notes: list[str] = []
        self._name, self._ends = name, ends
        found = _by_mark(head(stream))
        self._encoding = _with_mark(encoding) if encoding else found or "utf-8"
        if encoding is None and found not in (None, "utf-8-sig"):
            self.notes.append(f"{name} is read as {found}, as its first bytes say")
        if encoding is None and found is None:
            _refuse_wide(head(stream), name)
        self._text = io.TextIOWrapper(stream, self._encoding, newline="" if ends else None)

    def __iter__(self) -> Iterator[str]:
        number = 0
        try:
            while line := self._text.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    raise SteerError(
                        f"{self._name}: line {number} has over {LONGEST:,} characters; "
                        "is it the kind of file that its name says? --format names it"
                    )
                yield line if self._ends else line.removesuffix("\n")
        except UnicodeError as error:
            raise SteerError(self._undecodable(number, error)) from None

    def _undecodable(self, lines: int, error: UnicodeError) -> str:
        """Says where the bytes are no text, and what encoding they may have."""
        if not isinstance(error, UnicodeDecodeError):
            return f"{self._name} is no valid {self._encoding}: {error}; see --encoding"
        before = error.object[: error.start]
        line = lines + 1 + len(_LINE_END.findall(before))
        rest = _LINE_END.split(before)[-1].decode("ascii", "replace")[-20:]
        name = {"utf-8-sig": "utf-8"}.get(self._encoding, self._encoding).upper()
        after = f" after {shown(rest)}" if rest else ""
        found = f"byte {error.object[error.start]:#04x}{after}"
        advice = _advice(error.object, error.start, self._encoding)
        return f"{self._name}: line {line} is no valid {name} ({found}); {advice}"


class _Limited(io.RawIOBase):
    """Bytes of a stream, in as large pieces as asked for, up to a limit."""

    def __init__(self, inner: Any, limit: int, name: str) -> None:
        self._inner, self._left, self._name, self._limit = inner, limit, name, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        # A decompressor would start anew for each step back.
        return self._limit == sys.maxsize

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._inner.seek(offset, whence))

    def tell(self) -> int:
        return int(self._inner.tell())

    def readinto(self, buffer: Any) -> int:
        filled = 0
        while filled < len(buffer) and (piece := self._read(len(buffer) - filled)):
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._left -= filled
        if self._left < 0:
            raise SteerError(
                f"{self._name} holds over {self._limit:,} bytes, {EXPANSION} times its own size or "
                "more; if it is no mistake, decompress it first"
            )
        return filled

    def _read(self, size: int) -> bytes:
        try:
            return cast(bytes, self._inner.read(size))
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise SteerError(
                f"{self._name} is a damaged or incomplete compressed file: {error}; "
                "copy it or compress it again"
            ) from None

    def close(self) -> None:
        self._inner.close()
        super().close()


def _zstd(file: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")


_PACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


def _spooled(stream: io.BufferedReader | None = None) -> BinaryIO:
    """Copies a stream, or standard input, to a temporary file that is gone when closed."""
    source = stream if stream is not None else sys.stdin.buffer
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is given away
    while piece := source.read(2**20):
        copy.write(piece)
    copy.seek(0)
    return cast(BinaryIO, copy)


def _by_mark(start: bytes) -> str | None:
    """Encoding that a byte order mark names, if there is one."""
    return next((name for mark, name in _BOMS if start.startswith(mark)), None)


def _with_mark(encoding: str) -> str:
    """The encoding, without a byte order mark that the text may begin with."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _refuse_wide(start: bytes, name: str) -> None:
    """Raises `SteerError` for UTF-16 and UTF-32 without a mark: valid UTF-8, but every second
    character of it is NUL."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    if even + odd > len(start) // 5:
        guess = "utf-32" if even and odd else "utf-16-be" if even else "utf-16-le"
        raise SteerError(
            f"{name} looks like {guess}: {even + odd} of its first {len(start)} bytes are NUL; "
            f"give --encoding {guess}, or --format if it is no text"
        )


def _advice(content: bytes, fault: int, encoding: str) -> str:
    """What to do about bytes that are not valid: the encoding that they seem to have."""
    guess = _guess(content)
    if guess is None or guess.replace("_", "-") == encoding:
        return "give the right --encoding, such as cp1252 or utf-16, or save it as UTF-8"
    sample = content[max(0, fault - 12) : fault + 12].decode(guess, "replace")
    return f"it looks like {guess} ({shown(sample)}): give --encoding {guess}, or save it as UTF-8"


def _guess(content: bytes) -> str | None:
    """The encoding that bytes seem to have; of those that fit as well, Windows-1252, which is
    by far the most common."""
    from charset_normalizer import from_bytes

    wide = ["utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"]
    matches = from_bytes(content, cp_exclusion=wide)
    best = matches.best()
    if best is None:
        return None
    alike = [match for match in matches if match.chaos <= best.chaos]
    known = {name for match in alike for name in (match.encoding, *match.could_be_from_charset)}
    return "cp1252" if "cp1252" in known else best.encoding

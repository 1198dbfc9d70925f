"""Cache on disk of embeddings and likelihoods, by model and text."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from steer.errors import SteerError
from steer.files import disk_errors

CHUNK = 128
PLACE, LIMIT = "STEER_METRICS_CACHE", "STEER_METRICS_CACHE_MB"
DEFAULT_MB = 2000
"""Size limit of the cache: room for a million embeddings, and little beside the models."""

_PATIENCE = 10.0  # seconds for another process's write
_KEYS = 500
_SUM = 8
_SHARE = 64  # of the entries, one in so many leaves at a time
_TOUCH_SECONDS = 3600  # a use is noted if the last one was longer ago: reading is seldom writing
_FORMAT = 2
_OLDER = {"vectors", "sqlite_autoindex_vectors_1"}  # the first format: no kinds, no limit
_TABLES = (
    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, "
    "kind TEXT NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS entries_used ON entries (used)",
    f"PRAGMA user_version = {_FORMAT}",
)

T = TypeVar("T")
OnTexts = Callable[[int, int], None]


class Cache:
    """Vectors by content, in one SQLite file that many processes may use at once.

    It can fail (no permission, disk full, file damaged) but never stops who uses it: it then
    knows nothing, keeps nothing, and `problem` says why. Where the file would grow past `limit`
    bytes, the entries that were not used for longest leave. The file can be deleted at any time.
    Raises SteerError when the environment names a limit that is no number.
    """

    def __init__(self, path: Path | None = None, limit: int | None = None) -> None:
        self.path = path or default_path()
        self.limit = default_limit() if limit is None else limit
        self.problem: str | None = None

    def read(self, space: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Reads the fp32 vectors of the `texts` that are known in `space`: its kind, a space, and
        the name of everything else that a vector depends on, such as the model's settings."""
        keys = {_key(space, text): text for text in texts}
        rows = self._guarded(lambda file: list(_select(file, list(keys)))) or []
        self._touch([key for key, _, used in rows if _now() - used > _TOUCH_SECONDS])
        vectors = {keys[key]: _unpack(value) for key, value, _ in rows}
        return {text: vector for text, vector in vectors.items() if vector is not None}

    def write(self, space: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keeps `vectors`, by text; the oldest entries leave where there is no room."""
        about = space.split()[0], _now()
        rows = [(_key(space, text), _pack(vector), *about) for text, vector in vectors.items()]

        def insert(file: sqlite3.Connection) -> None:
            file.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
            _trim(file, self.limit)

        self._guarded(insert)

    def kinds(self) -> dict[str, tuple[int, int]]:
        """Counts the entries of each kind, and their bytes; none where there is no file."""
        query = "SELECT kind, count(*), sum(length(key) + length(value)) FROM entries GROUP BY kind"
        if not os.path.lexists(self.path):
            return {}
        rows = self._guarded(lambda file: file.execute(query).fetchall()) or []
        return {kind: (entries, size) for kind, entries, size in rows}

    def size(self) -> int:
        """Size of the file in bytes, 0 where there is none that can be seen."""
        return os.path.getsize(self.path) if os.path.isfile(self.path) else 0

    def clear(self) -> None:
        """Removes the file. Raises SteerError when it cannot be removed, or is no cache."""
        self.kinds()
        if self.problem:
            raise SteerError(f"{self.path} was not removed: {self.problem}; remove it by hand")
        with disk_errors(self.path):
            self._remove()

    def _touch(self, keys: list[bytes]) -> None:
        """Notes a use. Where that fails, as in a folder that is read only, the vectors are
        known all the same."""
        query, rows = "UPDATE entries SET used = ? WHERE key = ?", [(_now(), key) for key in keys]
        with suppress(sqlite3.Error, OSError):
            if rows:
                self._run(lambda file: file.executemany(query, rows))

    def _guarded(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Runs `action` on the open file and commits; gives None once anything has gone wrong."""
        if self.problem:
            return None
        try:
            return self._run(action)
        except sqlite3.OperationalError as error:  # locked, read-only, full
            self.problem = str(error)
        except sqlite3.DatabaseError:
            return self._renewed(action)
        except OSError as error:
            self.problem = error.strerror or str(error)
        return None

    def _renewed(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Runs `action` with a new file in place of a damaged or older one."""
        try:
            self._remove()
            return self._run(action)
        except (sqlite3.Error, OSError) as error:
            self.problem = str(error)
            return None

    def _remove(self) -> None:
        """Removes the file, and first what would undo an unfinished write in the next one."""
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as file, file:
            _prepare(file)
            return action(file)


def cache_folder() -> Path:
    """Folder of files that can be made again: `STEER_CACHE`, or `steer` in the user's cache."""
    if chosen := os.environ.get("STEER_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache") / "steer"


def tokenizers_folder() -> Path:
    """Folder of what Transformers made of tokenizers' files."""
    return cache_folder() / "tokenizers"


def kernels_folder() -> Path:
    """Folder of what was compiled for this processor."""
    return cache_folder() / "kernels"


def default_path() -> Path:
    """Path of the default cache: `STEER_METRICS_CACHE`, or `metrics.sqlite` beside the converted
    models."""
    chosen = os.environ.get(PLACE)
    return Path(chosen).expanduser() if chosen else cache_folder() / "metrics.sqlite"


def default_limit() -> int:
    """Size limit in bytes: `STEER_METRICS_CACHE_MB`, or `DEFAULT_MB`."""
    chosen = os.environ.get(LIMIT) or DEFAULT_MB
    try:
        return int(max(0.0, float(chosen)) * 1e6)
    except (ValueError, OverflowError):
        advice = "give a number of megabytes, such as 500"
        raise SteerError(f"{LIMIT} is {chosen!r}: {advice}") from None


def remembered(
    cache: Cache | None,
    space: str,
    texts: Sequence[str],
    compute: Callable[[list[str]], np.ndarray],
    on_texts: OnTexts | None = None,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Gives one fp32 row for each of `texts`, from `cache` or else by `compute`, which gets each
    distinct text once, at most `chunk` at a time; what it gives is kept chunk by chunk.

    `on_texts(done, total)` counts distinct texts.
    """
    # Longest first: little padding, time left is never underestimated, and a text's batch does
    # not depend on the given order.
    distinct = sorted(set(texts), key=lambda text: (-len(text), text))
    known = cache.read(space, distinct) if cache else {}
    missing = [text for text in distinct if text not in known]
    report = on_texts or (lambda done, total: None)
    report(len(known), len(distinct))
    for start in range(0, len(missing), chunk):
        some = missing[start : start + chunk]
        fresh = dict(zip(some, compute(some).astype(np.float32), strict=True))
        if cache:
            cache.write(space, fresh)
        known |= fresh
        report(len(known), len(distinct))
    return np.stack([known[text] for text in texts])


def _prepare(file: sqlite3.Connection) -> None:
    """Makes the tables in a new file. Raises DatabaseError when the file is an older cache, and
    OperationalError when it is another program's."""
    if _number(file, "PRAGMA user_version") == _FORMAT:
        return
    file.execute("PRAGMA auto_vacuum = FULL")  # so that the file shrinks when entries leave
    file.execute("BEGIN IMMEDIATE")
    tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    if tables == _OLDER:
        raise sqlite3.DatabaseError("an older cache")
    if tables and "entries" not in tables:
        raise sqlite3.OperationalError("the file is another program's")
    for statement in _TABLES:
        file.execute(statement)
    file.commit()


def _trim(file: sqlite3.Connection, limit: int) -> None:
    """Lets entries go, those used longest ago first, until the file fits into `limit` bytes."""
    oldest = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY used, rowid"
    while _bytes(file) > limit and (entries := _number(file, "SELECT count(*) FROM entries")):
        file.execute(f"{oldest} LIMIT ?)", [max(1, entries // _SHARE)])


def _bytes(file: sqlite3.Connection) -> int:
    pages = _number(file, "PRAGMA page_count") - _number(file, "PRAGMA freelist_count")
    return pages * _number(file, "PRAGMA page_size")


def _number(file: sqlite3.Connection, query: str) -> int:
    return int(file.execute(query).fetchone()[0])


def _now() -> int:
    return int(time.time())


def _select(file: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[bytes, bytes, int]]:
    for start in range(0, len(keys), _KEYS):
        part = keys[start : start + _KEYS]
        marks = ",".join("?" * len(part))
        query = f"SELECT key, value, used FROM entries WHERE key IN ({marks})"
        yield from file.execute(query, part)


def _key(space: str, text: str) -> bytes:
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return hashlib.sha256(space.encode(errors="surrogatepass") + digest).digest()


def _pack(vector: np.ndarray) -> bytes:
    data = vector.astype("<f4").tobytes()
    return _checksum(data) + data


def _unpack(value: object) -> np.ndarray | None:
    """Unpacks a vector; gives None where the disk has changed a bit of it."""
    if not isinstance(value, bytes) or value[:_SUM] != _checksum(value[_SUM:]):
        return None
    return np.frombuffer(value, dtype="<f4", offset=_SUM).astype(np.float32)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_SUM).digest()

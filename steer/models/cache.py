"""Cache on disk of embeddings and likelihoods, by model and text."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np

CHUNK = 128
_PATIENCE = 2.0  # seconds for another process's write
_KEYS = 500
_SUM = 8
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL)"

T = TypeVar("T")
OnTexts = Callable[[int, int], None]


class Cache:
    """Vectors by content, in one SQLite file that many processes may use at once.

    It can fail (no permission, disk full, file damaged) but never stops who uses it: it then
    knows nothing, keeps nothing, and `problem` says why. The file can be deleted at any time.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.problem: str | None = None

    def read(self, space: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Reads the fp32 vectors of the `texts` that are known in `space`: the name of everything
        else that a vector depends on, such as the model and its settings."""
        keys = {_key(space, text): text for text in texts}
        rows = self._guarded(lambda file: dict(_select(file, list(keys))))
        vectors = {keys[key]: _unpack(value) for key, value in (rows or {}).items()}
        return {text: vector for text, vector in vectors.items() if vector is not None}

    def write(self, space: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keeps `vectors`, by text."""
        rows = [(_key(space, text), _pack(vector)) for text, vector in vectors.items()]
        self._guarded(
            lambda file: file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        )

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
        """Runs `action` with a new file in place of a damaged one."""
        try:
            self.path.unlink(missing_ok=True)
            return self._run(action)
        except (sqlite3.Error, OSError) as error:
            self.problem = str(error)
            return None

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as file, file:
            file.execute(_TABLE)
            return action(file)


def cache_folder() -> Path:
    """Folder of files that can be made again: `STEER_CACHE`, or `steer` in the user's cache."""
    if chosen := os.environ.get("STEER_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache") / "steer"


def default_path() -> Path:
    """Path of the default cache: `STEER_METRICS_CACHE`, or `metrics.sqlite` beside the converted
    models."""
    chosen = os.environ.get("STEER_METRICS_CACHE")
    return Path(chosen).expanduser() if chosen else cache_folder() / "metrics.sqlite"


def remembered(
    cache: Cache | None,
    space: str,
    texts: Sequence[str],
    compute: Callable[[list[str]], np.ndarray],
    on_texts: OnTexts | None = None,
) -> np.ndarray:
    """Gives one fp32 row for each of `texts`, from `cache` or else by `compute`, which gets each
    distinct text once, at most `CHUNK` at a time; what it gives is kept chunk by chunk.

    `on_texts(done, total)` counts distinct texts.
    """
    # Longest first: little padding, time left is never underestimated, and a text's batch does
    # not depend on the given order.
    distinct = sorted(set(texts), key=lambda text: (-len(text), text))
    known = cache.read(space, distinct) if cache else {}
    missing = [text for text in distinct if text not in known]
    report = on_texts or (lambda done, total: None)
    report(len(known), len(distinct))
    for start in range(0, len(missing), CHUNK):
        chunk = missing[start : start + CHUNK]
        fresh = dict(zip(chunk, compute(chunk).astype(np.float32), strict=True))
        if cache:
            cache.write(space, fresh)
        known |= fresh
        report(len(known), len(distinct))
    return np.stack([known[text] for text in texts])


def _select(file: sqlite3.Connection, keys: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(keys), _KEYS):
        part = keys[start : start + _KEYS]
        marks = ",".join("?" * len(part))
        yield from file.execute(f"SELECT key, value FROM vectors WHERE key IN ({marks})", part)


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

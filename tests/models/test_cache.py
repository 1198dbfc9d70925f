import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from steer.errors import SteerError
from steer.models.cache import (
    CHUNK,
    Cache,
    cache_folder,
    default_limit,
    default_path,
    remembered,
)

TEXTS = [f"text {i}" for i in range(5)]


class Model:
    """Counts what it is asked; a vector is the text's length and its last character."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
        return np.array([[len(text), ord(text[-1])] for text in texts], dtype=np.float64)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "folder" / "cache.sqlite")


def test_what_was_computed_once_is_not_computed_again(cache: Cache) -> None:
    model = Model()
    first = remembered(cache, "a", TEXTS[:3], model)
    again = remembered(Cache(cache.path), "a", [*TEXTS[::-1], TEXTS[0]], model)
    assert [sorted(call) for call in model.calls] == [TEXTS[:3], TEXTS[3:]]
    assert (again[[4, 3, 2]] == first).all() and (again[5] == first[0]).all()
    assert first.dtype == np.float32 and first.shape == (3, 2)


def test_spaces_are_apart(cache: Cache) -> None:
    model = Model()
    for space in ("a", "b", "a"):
        remembered(cache, space, TEXTS, model)
    assert len(model.calls) == 2


def test_without_a_cache_each_text_is_computed_once_a_call() -> None:
    model = Model()
    found = remembered(None, "a", TEXTS * 2, model)
    assert len(found) == 10 and sum(map(len, model.calls)) == 5


def test_progress_counts_distinct_texts_known_ones_first(cache: Cache) -> None:
    many = [f"number {i}" for i in range(CHUNK + 10)]
    remembered(cache, "a", many[:10], Model())
    seen: list[tuple[int, int]] = []
    remembered(cache, "a", many * 2, Model(), lambda *step: seen.append(step))
    assert seen == [(10, CHUNK + 10), (CHUNK + 10, CHUNK + 10)]


def test_progress_comes_after_each_chunk() -> None:
    seen: list[tuple[int, int]] = []
    remembered(None, "a", TEXTS, Model(), lambda *step: seen.append(step), chunk=2)
    assert seen == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_finished_chunks_survive_an_error(cache: Cache) -> None:
    many = [f"number {i:04}" for i in range(2 * CHUNK)]

    def fails_later(texts: list[str]) -> np.ndarray:
        if many[-1] in texts:
            raise KeyboardInterrupt
        return Model()(texts)

    with pytest.raises(KeyboardInterrupt):
        remembered(cache, "a", many, fails_later)
    model = Model()
    remembered(Cache(cache.path), "a", many, model)
    assert sum(map(len, model.calls)) == CHUNK


def test_half_a_character_and_another_case_are_texts_of_their_own(cache: Cache) -> None:
    model = Model()
    remembered(cache, "a", ["\ud800", "x", "X"], model)
    remembered(cache, "a", ["\ud800", "x", "X", "x "], model)
    assert model.calls[1] == ["x "]


def test_a_damaged_file_is_replaced(cache: Cache) -> None:
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"this is no database" * 1000)
    expected = remembered(None, "a", TEXTS, Model())
    assert (remembered(cache, "a", TEXTS, Model()) == expected).all()
    assert cache.problem is None
    model = Model()
    remembered(Cache(cache.path), "a", TEXTS, model)
    assert model.calls == []


def make_damaged(path: Path) -> None:
    """Zeroes a page in the middle of a cache of many pages."""
    remembered(Cache(path), "b", [f"{i}" for i in range(CHUNK)], lambda some: np.ones((CHUNK, 999)))
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[4096 * page : 4096 * page + 100] = b"\xff" * 100
    path.write_bytes(content)


def make_older(path: Path) -> None:
    """Writes a cache as the first versions of steer did."""
    path.parent.mkdir()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
        file.execute("INSERT INTO vectors VALUES (x'00', x'00')")
    file.close()


@pytest.mark.parametrize("spoil", [make_damaged, make_older])
def test_a_file_that_cannot_be_read_makes_way(cache: Cache, spoil: Callable[[Path], None]) -> None:
    spoil(cache.path)
    assert len(remembered(cache, "a", TEXTS, Model())) == 5
    assert cache.problem is None
    assert cache.kinds()["a"][0] == 5
    with sqlite3.connect(cache.path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def test_another_programs_file_is_left_alone(cache: Cache) -> None:
    cache.path.parent.mkdir()
    with sqlite3.connect(cache.path) as file:
        file.execute("CREATE TABLE diary (day TEXT)")
    file.close()
    before = cache.path.read_bytes()
    assert len(remembered(cache, "a", TEXTS, Model())) == 5
    assert cache.problem == "the file is another program's"
    with pytest.raises(SteerError, match="was not removed: the file is another program's"):
        Cache(cache.path).clear()
    assert cache.path.read_bytes() == before


def test_a_changed_bit_is_never_believed(cache: Cache) -> None:
    expected = remembered(cache, "a", TEXTS, Model())
    with sqlite3.connect(cache.path) as file:
        (value,) = file.execute("SELECT value FROM entries").fetchone()
        changed = value[:-1] + bytes([value[-1] ^ 1])
        file.execute("UPDATE entries SET value = ? WHERE value = ?", (changed, value))
    model = Model()
    assert (remembered(Cache(cache.path), "a", TEXTS, model) == expected).all()
    assert sum(map(len, model.calls)) == 1


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "cache.sqlite", tmp_path):
        cache = Cache(path)
        assert len(remembered(cache, "a", TEXTS, Model())) == 5
        assert cache.problem


def test_a_full_disk_stops_nothing(cache: Cache) -> None:
    remembered(cache, "a", TEXTS[:1], Model())
    code = f"""
import resource, signal
import numpy as np
from pathlib import Path
from steer.models.cache import Cache, remembered
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
cache = Cache(Path({str(cache.path)!r}))
big = remembered(cache, "b", [str(i) for i in range(100)], lambda texts: np.ones((len(texts), 999)))
assert big.shape == (100, 999) and cache.problem, cache.problem
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = Model()
    remembered(Cache(cache.path), "a", TEXTS[:1], model)
    assert model.calls == []


def test_a_locked_file_stops_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.models.cache._PATIENCE", 0.01)
    remembered(cache, "a", TEXTS[:1], Model())
    other = sqlite3.connect(cache.path)
    other.execute("BEGIN EXCLUSIVE")
    assert len(remembered(cache, "a", TEXTS, Model())) == 5
    assert "locked" in str(cache.problem)
    other.close()


def test_processes_share_one_file(cache: Cache) -> None:
    code = f"""
import numpy as np
from pathlib import Path
from steer.models.cache import Cache, remembered
cache = Cache(Path({str(cache.path)!r}))
texts = [f"{{i}}" for i in range(300)]
remembered(cache, "a", texts, lambda some: np.array([[float(text)] for text in some]))
assert cache.problem is None, cache.problem
"""
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    model = Model()
    found = remembered(cache, "a", [str(i) for i in range(300)], model)
    assert model.calls == []
    assert (found[:, 0] == np.arange(300)).all()


def rows(texts: list[str]) -> np.ndarray:
    """Large rows, so that a few entries make a large file; each begins with its text's number."""
    found = np.zeros((len(texts), 999))
    found[:, 0] = [float(text) for text in texts]
    return found


def numbers(start: int, stop: int) -> list[str]:
    return [f"{i}" for i in range(start, stop)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Hours that the cache believes it is."""
    hours = [0]
    monkeypatch.setattr("steer.models.cache._now", lambda: 3601 * hours[0])
    return hours


def test_the_file_stays_within_its_limit(tmp_path: Path) -> None:
    small = Cache(tmp_path / "cache.sqlite", limit=1_000_000)
    for start in range(0, 1200, 300):
        found = remembered(small, "a", numbers(start, start + 300), rows)
        assert (found[:, 0] == np.arange(start, start + 300)).all()
        assert small.size() <= 1_000_000
    assert small.problem is None
    entries, size = small.kinds()["a"]
    assert 100 < entries < 250 and 800_000 < 4000 * entries < size < 1_000_000
    assert Cache(small.path).read("a", numbers(0, 900)) == {}
    Cache(small.path, limit=200_000).write("a", {"1": np.zeros(999)})
    assert 100_000 < small.size() <= 200_000


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    none = Cache(tmp_path / "cache.sqlite", limit=0)
    assert len(remembered(none, "a", numbers(0, 10), rows)) == 10
    assert none.kinds() == {} and none.problem is None


def test_what_was_used_longest_ago_leaves_first(tmp_path: Path, clock: list[int]) -> None:
    small = Cache(tmp_path / "cache.sqlite", limit=1_000_000)
    for part in range(4):
        clock[0] = part
        remembered(small, "a", numbers(50 * part, 50 * part + 50), rows)
    clock[0] = 4
    small.read("a", numbers(0, 50))  # used again, so those from 50 on are the oldest
    remembered(small, "b", numbers(0, 80), rows)
    kept = {int(text) for text in small.read("a", numbers(0, 200))}
    assert kept > {*range(50), *range(150, 200)}
    assert 0 < len({*range(50, 150)} - kept) < 100


def test_reading_writes_at_most_once_an_hour(cache: Cache, clock: list[int]) -> None:
    remembered(cache, "a", TEXTS, Model())
    before = cache.path.read_bytes()
    cache.read("a", TEXTS)
    assert cache.path.read_bytes() == before
    clock[0] = 1
    cache.read("a", TEXTS)
    assert cache.path.read_bytes() != before


def test_a_use_that_cannot_be_noted_loses_nothing(
    cache: Cache, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer.models.cache._PATIENCE", 0.01)
    remembered(cache, "a", TEXTS, Model())
    clock[0] = 1
    other = sqlite3.connect(cache.path)
    other.execute("BEGIN IMMEDIATE")  # others may read, none may write
    assert len(cache.read("a", TEXTS)) == 5
    assert cache.problem is None
    other.close()


def test_processes_share_a_file_with_too_little_room(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    code = f"""
import sys
import numpy as np
from pathlib import Path
from steer.models.cache import Cache, remembered
cache = Cache(Path({str(path)!r}), limit=500_000)
texts = [f"{{i}}" for i in range(int(sys.argv[1]), 400)]
for space in ("a", "b"):
    found = remembered(cache, space, texts, lambda some: np.float64([[int(x)] * 999 for x in some]))
    assert (found[:, 0] == [int(text) for text in texts]).all()
assert cache.problem is None, cache.problem
"""
    running = [subprocess.Popen([sys.executable, "-c", code, f"{i}"]) for i in (0, 50, 100)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert 300_000 < Cache(path).size() <= 500_000
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def test_kinds_size_and_clearing(cache: Cache) -> None:
    assert cache.kinds() == {} and cache.size() == 0 and not cache.path.exists()
    remembered(cache, "embedding of one model", TEXTS, Model())
    remembered(cache, "embedding of another", TEXTS, Model())
    remembered(cache, "reading", TEXTS, Model())
    size = 32 + 8 + 8  # key, checksum, two numbers
    assert cache.kinds() == {"embedding": (10, 10 * size), "reading": (5, 5 * size)}
    assert cache.size() == cache.path.stat().st_size > 0
    cache.clear()
    assert not list(cache.path.parent.iterdir())
    cache.clear()
    assert len(remembered(cache, "a", TEXTS, Model())) == 5 and cache.problem is None


@pytest.mark.parametrize(
    ("given", "limit"),
    [(None, 2_000_000_000), ("", 2_000_000_000), ("500", 500_000_000), ("0.5", 500_000), ("-1", 0)],
)
def test_the_limit_follows_the_environment(
    given: str | None, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEER_METRICS_CACHE_MB", raising=False)
    if given is not None:
        monkeypatch.setenv("STEER_METRICS_CACHE_MB", given)
    assert default_limit() == Cache(tmp_path / "cache.sqlite").limit == limit


@pytest.mark.parametrize("given", ["2 GB", "inf"])
def test_a_limit_that_is_no_number_is_said(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEER_METRICS_CACHE_MB", given)
    with pytest.raises(SteerError, match=f"STEER_METRICS_CACHE_MB is '{given}': give a number"):
        Cache()


def test_the_place_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_path() == Path(os.environ["STEER_METRICS_CACHE"])
    monkeypatch.delenv("STEER_METRICS_CACHE")
    monkeypatch.setenv("STEER_CACHE", "/elsewhere")
    assert default_path() == Path("/elsewhere/metrics.sqlite")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/steer")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "steer"

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steer.models.cache import CHUNK, Cache, cache_folder, default_path, remembered

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


def test_a_changed_bit_is_never_believed(cache: Cache) -> None:
    expected = remembered(cache, "a", TEXTS, Model())
    with sqlite3.connect(cache.path) as file:
        (value,) = file.execute("SELECT value FROM vectors").fetchone()
        changed = value[:-1] + bytes([value[-1] ^ 1])
        file.execute("UPDATE vectors SET value = ? WHERE value = ?", (changed, value))
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

"""The comparison of two commits' demos, but for the demos themselves."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import demos
from benchmarks.demos import FIRST_WORDS, Took
from benchmarks.pairs import Ratio
from steer.errors import SteerError

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")


def test_the_set_up_ends_with_the_demos_first_words(tmp_path: Path) -> None:
    code = f"import time; time.sleep(0.2); print({FIRST_WORDS!r}, flush=True); time.sleep(0.1)"
    took = demos.timed([sys.executable, "-c", code], tmp_path, os.environ)
    assert took.setup > 0.1 and took.demo > 0 and took.cpu > 0  # sleeps are not exact
    assert took.whole == took.setup + took.demo
    for wrong in ("print('no words')", f"print({FIRST_WORDS!r}); raise SystemExit('why')"):
        with pytest.raises(SteerError, match=r"failed in .*: .*(no words|why)"):
            demos.timed([sys.executable, "-c", wrong], tmp_path, os.environ)


def test_a_copy_is_of_the_commit_and_nothing_else(tmp_path: Path) -> None:
    demos.clone("HEAD", tmp_path / "copy")
    assert (tmp_path / "copy" / "Makefile").is_file()
    assert not (tmp_path / "copy" / ".venv").exists()
    assert len(demos.identify("HEAD")) >= 7
    with pytest.raises(SteerError, match="no commit 'nowhere'"):
        demos.identify("nowhere")
    with pytest.raises(SteerError, match="git cannot make a copy at nowhere"):
        demos.clone("nowhere", tmp_path / "other")


def test_nothing_is_there_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("STEER_CACHE", "elsewhere")
    environment = demos.empty_caches(tmp_path)
    assert "elsewhere" not in environment.values()
    assert environment["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert environment["PATH"] == os.environ["PATH"]


def test_the_command_adds_its_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([Took(60, 140, 300), Took(30, 90, 200), Took(50, 150, 300), Took(40, 100, 200)])
    taken: list[str] = []

    def take(commit: str) -> Took:
        taken.append(commit)
        return next(times)

    monkeypatch.setattr(demos, "take", take)
    monkeypatch.setattr(demos, "identify", lambda commit: commit)
    out = tmp_path / "cpu.json"
    assert demos.main(["--old", "a", "--new", "b", "--repeats", "2", "--out", str(out)]) == 0
    assert taken == ["a", "b", "a", "b"]
    found = json.loads(out.read_text())
    assert found["demo_over_before"] == vars(Ratio.of([0.6, 0.7]))
    assert found["demo_setup_over_before"] == vars(Ratio.of([0.5, 0.8]))
    assert found["demo_run_over_before"]["low"] == pytest.approx(90 / 140)
    assert found["added"]["demos"]["seconds"]["before"]["median"] == 200
    assert "not met" in capsys.readouterr().err

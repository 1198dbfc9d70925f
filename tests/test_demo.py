"""The demo, but for the work of its commands."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from examples import demo
from steer.data.corpus import Corpus
from steer.models.packaged import GEMMA_PACKAGE

TEXTS = {name: [f"{name} [{i}]" for i in range(20)] for name in ("real", "run", "plain")}


def test_five_of_each_stand_side_by_side() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(demo.side_by_side(TEXTS))
    lines = [line.split() for line in console.export_text().splitlines()]
    rows = [line for line in lines if len(line) == 6 and line[0] in TEXTS]
    assert len(rows) == 5
    assert all(row[::2] == ["real", "run", "plain"] for row in rows)


@pytest.mark.parametrize("installed", [True, False])
def test_the_judge_needs_no_download_and_a_better_one_is_named(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[object, ...]] = []
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    monkeypatch.setattr(demo, "screen", Console(width=200, record=True, file=io.StringIO()))
    monkeypatch.setattr(demo, "is_installed", lambda name: installed)
    files = tuple(tmp_path / name for name in ("real", "held out", "judge"))
    monkeypatch.setattr(demo, "corpora", lambda: files)
    monkeypatch.setattr(demo, "load_corpus", lambda path: Corpus(("A text.",) * 20, None, "real"))
    monkeypatch.setattr(demo, "run", lambda *parts: ran.append(parts))
    monkeypatch.setattr(demo.Run, "open", lambda path: demo_run())
    assert demo.main() == 0
    assert [parts[0] for parts in ran] == ["make", "generate", "evaluate"]
    for parts in (ran[0], ran[-1]):
        assert f"ngrams:{tmp_path / 'judge'}" in parts
    said = " ".join(demo.screen.export_text().split())
    assert (f"pip install {GEMMA_PACKAGE}" in said) == (not installed)
    assert "5 of each" in said


def demo_run() -> object:
    """Stands for a run."""

    class Record:
        text = "Return it."

    class Made:
        records = (Record(),) * 20

    return Made()

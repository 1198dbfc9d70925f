"""The benchmark of a judge on a tiny random model: that it measures, never how fast anything is."""

from pathlib import Path

import pytest

from benchmarks import judging
from steer.models.reading import Reader
from tests.tiny import TEXTS


def test_both_ways_are_measured_in_turns(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:20]) + "\n")
    ways: list[bool] = []
    read = Reader.read

    def noting(self: Reader, texts: list[list[int]]) -> list:
        ways.append(self._head is None)
        return read(self, texts)

    monkeypatch.setattr(Reader, "read", noting)
    arguments = [str(tmp_path / "texts.txt"), "--judge", str(tiny_model), "--repeats", "2"]
    assert judging.main([*arguments, "--texts", "12"]) == 0
    head, *figures = capsys.readouterr().out.splitlines()
    assert head.startswith("12 texts, ") and len(figures) == 3
    assert ways == [False, False, True, False, True]


def test_data_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert judging.main(["/no/such/texts.jsonl"]) == 2
    assert "error:" in capsys.readouterr().err

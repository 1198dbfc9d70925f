"""The benchmark of runs of many records, on few."""

from pathlib import Path

import pytest

from benchmarks import records


def test_every_step_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_alone", records._timed)
    monkeypatch.setattr(records, "MORE", 20)
    said: list[str] = []
    points = records.measure([40], tmp_path, said.append)
    steps = ["make", "open", "show", *records.EXPORTS, "continue with 20 more"]
    assert [point["step"] for point in points] == steps
    assert all(point["mebibytes"] > 20 and point["records"] == 40 for point in points)
    assert len(said) == len(steps)
    assert all((tmp_path / "40" / name).exists() for name in records.EXPORTS)


def test_panels_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ROUNDS", 1)
    points = records.select([50], lambda said: None)
    assert [(point["pool"], point["panels"]) for point in points] == [
        (50, "crowded"),
        (50, "diverse"),
    ]

"""The benchmark of correction on a few texts: that it measures and draws, not what comes out."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import correction
from benchmarks.known import OTHER, REAL, GroupEmbedder, texts


def write(path: Path, some: list[str]) -> Path:
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in some))
    return path


def test_it_measures_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.correction.correct.embedder_of", lambda name: GroupEmbedder())
    options = argparse.Namespace(
        candidates=write(tmp_path / "made.jsonl", texts(OTHER, 150, 1)),
        real=write(tmp_path / "real.jsonl", texts(REAL, 420, 2)),
        out=tmp_path / "out.json",
        picture=tmp_path / "picture.svg",
    )
    correction._run(options, correction.TINY, lambda _: None)
    results = json.loads(options.out.read_text())
    areas = [name for name in results["files"] if name.endswith(("random", "corrected"))]
    assert len(areas) == 4
    for point in (results["files"], *results["known"]):
        assert all(0 <= point[name] <= 1 for name in areas)
        assert 0 < point["effective"] <= point["control_effective"] <= 1
    assert options.picture.read_text().lstrip().startswith("<?xml")


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--out", str(tmp_path / "a.json"), "--picture", str(tmp_path / "a.svg")]
    assert correction.main(["--candidates", "gone.jsonl", "--real", "gone.jsonl", *places]) == 2
    assert "gone.jsonl" in capsys.readouterr().err

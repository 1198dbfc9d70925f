"""A run in figures is the run that is read whole."""

from pathlib import Path

import pytest

from steer.cli.main import main
from steer.config import RunConfig
from steer.runs.generation import generate
from steer.runs.overview import Overview
from steer.runs.store import Run, Stream
from tests import stub


@pytest.fixture
def run(tmp_path: Path) -> Run:
    real = stub.corpus(labels=("a", "b"))
    config = RunConfig(labels={"a": 12, "b": 8}, round_size=8, rows_per_panel=4)
    expert = stub.StubExpert(("a", "b"), "A {label} line:")
    return generate(config, real, expert, stub.StubEngine(real), tmp_path / "run")


@pytest.mark.parametrize("first", [0, 3, 100])
def test_an_overview_is_the_run_in_figures(run: Run, first: int) -> None:
    seen = Overview.of(Stream.open(run.path), first)
    assert seen.counts == run.counts == {"a": 12, "b": 8}
    assert list(seen.reasons.items()) == list(run.reasons.items())
    assert seen.first == run.records[:first]
    assert (seen.complete, seen.correction) == (run.complete, run.correction) == (True, None)


def test_showing_a_run_reads_it_one_round_after_the_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "open", lambda *_: pytest.fail("the run was read whole"))
    assert main(["show", str(run.path), "--records", "2"]) == 0
    shown = capsys.readouterr().out
    assert "20 of 20 records, complete" in shown
    assert run.texts[1] in shown and run.texts[2] not in shown
    assert main(["show", str(run.path), "--lineage", "real:1"]) == 0
    assert f"of {len(run.records)} records had it in their panel" in capsys.readouterr().out

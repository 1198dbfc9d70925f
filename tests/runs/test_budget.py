"""A budget ends a call between two rounds; a forecast makes nothing."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from steer.config import RunConfig
from steer.correction.selector import LEAST, LEAST_LENGTHS
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.runs import budget as budgets
from steer.runs.budget import Budget, BudgetSpent
from steer.runs.forecast import PASSING, forecast
from steer.runs.generation import RunProgress, complete_config, generate
from steer.runs.launch import launch
from steer.runs.sources import Inputs
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import CONFIG, REAL, rounds


class Expert(stub.StubExpert):
    completion_tokens = SimpleNamespace(mean=9.0)


def make(out: Path, monkeypatch: pytest.MonkeyPatch, budget: Budget | None = None) -> Run:
    monkeypatch.setattr(EngineSpec, "load", lambda _: stub.StubEngine(REAL))
    return launch(CONFIG, REAL, Expert(), EngineSpec("base"), out, budget=budget)


def test_tokens_are_spent_call_by_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub writes ten tokens an attempt, 16 attempts a round: two rounds fit into 330."""
    seen = [make(tmp_path / "run", monkeypatch, Budget(tokens=330)) for _ in range(2)]
    assert [each.rounds for each in seen] == [2, 4]
    assert not seen[1].complete
    whole = make(tmp_path / "whole", monkeypatch)
    last = make(tmp_path / "run", monkeypatch)
    assert last.complete and rounds(last.path) == rounds(whole.path)


def test_the_first_round_is_always_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(tmp_path / "run", monkeypatch, Budget(tokens=1)).rounds == 1


def test_a_budget_that_suffices_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ample = make(tmp_path / "run", monkeypatch, Budget(seconds=9e9, tokens=10**9))
    assert ample.complete
    assert make(tmp_path / "run", monkeypatch, Budget(tokens=1)) == ample


def progress(attempts: int, accepted: int = 0, size: int = 10) -> RunProgress:
    return RunProgress(accepted, 50, attempts, accepted, attempts, 0, size)


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [(100.0, None), (50.0, None), (45.0, 50), (19.0, 20), (5.0, 20), (31.0, 40)],
)
def test_a_round_is_begun_if_one_like_those_before_fits(
    seconds: float, ends: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second an attempt; this call began at attempt 10."""
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(budgets.time, "monotonic", lambda: float(next(now)))
    update = Budget(seconds=seconds).watched(lambda _: None)
    reached = None
    try:
        for attempts in range(10, 60, 10):
            update(progress(attempts))
            update(progress(attempts))  # a step within the round
    except BudgetSpent:
        reached = attempts
    assert reached == ends


@pytest.mark.parametrize("begun", [False, True])
def test_a_forecast(tmp_path: Path, begun: bool) -> None:
    engine = stub.StubEngine(REAL)
    config = RunConfig(**dict(CONFIG) | {"n": 400})
    config = complete_config(config, Expert(), tmp_path / "run")
    run = generate(CONFIG, REAL, Expert(), engine, tmp_path / "run") if begun else None
    inputs = Inputs(REAL, None, Expert(), engine, None)
    seen = forecast(config, inputs, engine, run)
    assert (seen.streams, seen.known) == (3, begun)
    assert seen.seconds >= 0 and seen.memory > 2**20
    if run is None:
        assert (seen.attempts, seen.tokens) == (400 / PASSING, 4500)
        assert not (tmp_path / "run").exists()
    else:
        made = len(run.records) + len(run.rejects)
        passed = 60 + run.reasons.get("surplus", 0)
        assert seen.attempts == pytest.approx(340 * made / passed, abs=1)
        assert seen.tokens == 10 * seen.attempts


@pytest.mark.parametrize(
    ("texts", "candidates"), [(LEAST_LENGTHS - 1, 1), (LEAST_LENGTHS, 4), (2 * LEAST, 4)]
)
def test_a_forecast_of_a_run_that_corrects(tmp_path: Path, texts: int, candidates: int) -> None:
    """It needs no selector, and with too few real texts for one there is none to come."""
    real = Corpus.of(f"A text with the number {n}." for n in range(texts))
    config = RunConfig(**dict(CONFIG) | {"n": 40, "candidates": 4, "labels": {}})
    config = complete_config(config, Expert(), tmp_path / "run")
    engine = stub.StubEngine(real)
    seen = forecast(config, Inputs(real, None, Expert(), engine, None), engine)
    assert seen.attempts == 40 * candidates / PASSING

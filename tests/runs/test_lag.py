"""Several rounds in the making: their records do not depend on who makes them, or when."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from steer.config import RunConfig, Sampling
from steer.engines.interface import Completion, Step, complete
from steer.runs.generation import RunProgress, generate, run_rounds
from steer.runs.rounds import Round, Tally, plan_round
from steer.runs.state import RunState
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import WordEmbedder, rounds

REAL = stub.corpus()
SETTINGS = {"n": 90, "round_size": 12, "rows_per_panel": 4}


class Crew:
    """Workers that finish in any order, drawn with `seed`."""

    engine: type[stub.StubEngine] = stub.StubEngine
    real = REAL

    def __init__(self, workers: int, seed: int) -> None:
        self.workers = workers
        self.rng = random.Random(seed)
        self.taken: list[tuple[RunState, Round]] = []
        self.most = 0

    def fits(self, loop: RunState, round: Round) -> bool:
        return len(self.taken) < self.workers

    def take(self, loop: RunState, round: Round) -> None:
        self.taken.append((loop, round))
        self.most = max(self.most, len(self.taken))

    def wait(
        self, on_step: Callable[[Step], None]
    ) -> list[tuple[RunState, Round, list[Completion]]]:
        if self.rng.random() < 0.2:
            return []
        done = self.rng.sample(self.taken, self.rng.randint(1, len(self.taken)))
        self.taken = [taken for taken in self.taken if taken not in done]
        engine = self.engine(self.real)
        return [(loop, r, complete(engine, r.requests, Sampling())) for loop, r in done]


def made_by(crew: Crew, out: Path, config: RunConfig, **settings: object) -> Run:
    engine = stub.StubEngine(REAL)
    return run_rounds({out: config}, REAL, stub.StubExpert(), engine, crew, **settings)[0]  # type: ignore[arg-type]


def made_here(out: Path, config: RunConfig) -> Run:
    return generate(config, REAL, stub.StubExpert(), stub.StubEngine(REAL), out)


@pytest.mark.parametrize("lag", [1, 2, 3, 7, 40])
def test_any_number_of_workers_makes_the_same_run(tmp_path: Path, lag: int) -> None:
    config = RunConfig(**SETTINGS, lag=lag)
    here = made_here(tmp_path / "here", config)
    assert here.complete
    for workers, seed in [(1, 0), (2, 1), (5, 2), (64, 3), (64, 4)]:
        crew = Crew(workers, seed)
        there = made_by(crew, tmp_path / f"{workers}-{seed}", config)
        assert rounds(there.path) == rounds(here.path)
        # Never more rounds at once than the lag; and workers are used, where it allows.
        assert crew.most <= min(workers, lag)
        assert crew.most == min(workers, lag, -(-90 // 12))


@pytest.mark.parametrize("lag", [1, 3, 8])
def test_panels_come_from_rounds_up_to_the_lag_before(tmp_path: Path, lag: int) -> None:
    made = made_here(tmp_path / "run", RunConfig(**SETTINGS | {"n": 300}, lag=lag))
    accepted_in = {record.id: record.round for record in made.records}
    gaps = {
        attempt.round - accepted_in[member]
        for attempt in (*made.records, *made.rejects)
        for member in attempt.panel
        if member in accepted_in
    }
    assert min(gaps) == lag


def test_the_lag_is_part_of_the_run(tmp_path: Path) -> None:
    one, two = (made_here(tmp_path / str(lag), RunConfig(**SETTINGS, lag=lag)) for lag in (1, 2))
    assert rounds(one.path) != rounds(two.path)
    with pytest.raises(Exception, match="lag is 1 there and 2 now"):
        made_here(one.path, two.config)


def test_stopped_anywhere_and_continued_by_others(tmp_path: Path) -> None:
    config = RunConfig(**SETTINGS, lag=4)
    whole = made_here(tmp_path / "whole", config)

    def stop(_: RunProgress) -> None:
        if rng.random() < 0.4:
            raise KeyboardInterrupt

    rng, stops = random.Random(1), 0
    for seed in range(1000):
        try:
            made = made_by(Crew(1 + seed % 5, seed), tmp_path / "run", config, on_progress=stop)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 5
    assert rounds(made.path) == rounds(whole.path)


def test_drafts_for_the_nearest_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round is given to the workers twice; what was drafted decides its panels."""
    monkeypatch.setattr("steer.runs.generation.load_embedder", lambda cache: WordEmbedder())
    config = RunConfig(**SETTINGS, lag=3, panel_selection="nearest")
    here = made_here(tmp_path / "here", config)
    assert rounds(made_by(Crew(3, 5), tmp_path / "there", config).path) == rounds(here.path)


def test_labels(tmp_path: Path) -> None:
    config = RunConfig(labels={"a": 30, "b": 12}, round_size=8, rows_per_panel=4, lag=3)
    expert = stub.StubExpert(labels=("a", "b"), prompt="A {label} line:")
    here = generate(config, REAL, expert, stub.StubEngine(REAL), tmp_path / "here")
    assert here.counts == config.wanted
    jobs = {tmp_path / "there": config}
    (there,) = run_rounds(jobs, REAL, expert, stub.StubEngine(REAL), Crew(3, 0))
    assert rounds(there.path) == rounds(here.path)


def test_a_round_of_no_attempts_waits_for_those_before_it(tmp_path: Path) -> None:
    """One round is expected to bring all; it does not, and a later one fills what is missing."""
    made = made_here(tmp_path / "run", RunConfig(n=20, round_size=20, rows_per_panel=4, lag=3))
    assert made.complete
    sizes = [sum(a.round == r for a in (*made.records, *made.rejects)) for r in range(made.rounds)]
    assert sizes[:3] == [20, 0, 0]
    assert sizes[3] > 0
    assert sizes[-1] > 0  # and none after the last record


def test_attempts_are_never_exceeded(tmp_path: Path) -> None:
    config = RunConfig(**SETTINGS | {"max_attempts": 100}, lag=5)
    made = made_by(Crew(5, 0), tmp_path / "run", config)
    assert len(made.records) + len(made.rejects) == 100
    assert not made.complete
    assert rounds(made_here(tmp_path / "here", config).path) == rounds(made.path)


def test_what_is_flying_counts_as_the_rest_so_far() -> None:
    config = RunConfig(n=1000)
    half = {None: Tally(attempts=799, passed=399, accepted=399)}
    assert plan_round(config, half, {None: 1000}) == {None: 202}
    assert plan_round(config, half, {None: 1202}) == {}
    assert plan_round(RunConfig(n=1000, max_attempts=1800), half, {None: 1000}) == {None: 1}

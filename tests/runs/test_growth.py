"""A run may be asked for more records or attempts than it was begun with."""

import json
from pathlib import Path

import pytest

from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.generation import RunProgress, generate
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import REAL, rounds, run

SMALL = RunConfig(n=20, round_size=16, rows_per_panel=4)
LARGE = SMALL.model_copy(update={"n": 50})


@pytest.mark.parametrize("lag", [1, 3])
def test_a_finished_run_keeps_its_rounds_and_makes_more(tmp_path: Path, lag: int) -> None:
    small, large = (config.model_copy(update={"lag": lag}) for config in (SMALL, LARGE))
    begun = run(tmp_path / "run", small)
    before = rounds(begun.path)
    grown = run(tmp_path / "run", large)
    assert grown.complete and grown.config.n == 50 and len(grown.records) == 50
    assert rounds(grown.path).items() >= before.items()
    numbers = sorted(int(each.id[4:]) for each in (*grown.records, *grown.rejects))
    assert numbers == list(range(len(numbers)))
    assert run(tmp_path / "run", large) == grown


@pytest.mark.parametrize("steps", [0, 1, 20, 40])
def test_a_kill_while_it_grows_changes_nothing(tmp_path: Path, steps: int) -> None:
    for name in ("whole", "stopped"):
        run(tmp_path / name, SMALL)
    calls = iter(range(1000))

    def stop(_: RunProgress) -> None:
        if next(calls) == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", LARGE, on_progress=stop)
    whole, stopped = (run(tmp_path / name, LARGE) for name in ("whole", "stopped"))
    assert rounds(whole.path) == rounds(stopped.path)


def test_a_run_at_an_address_grows(tmp_path: Path) -> None:
    engine = stub.StubEngine(REAL)
    made = [
        generate(config, REAL, stub.StubExpert(), engine, "memory://growing")
        for config in (SMALL, LARGE)
    ]
    assert [len(each.records) for each in made] == [20, 50]
    assert made[1].records[:20] == made[0].records


def test_it_goes_on_with_more_attempts(tmp_path: Path) -> None:
    few = SMALL.model_copy(update={"max_attempts": 20})
    spent = run(tmp_path / "run", few)
    assert not spent.complete
    done = run(tmp_path / "run", SMALL.model_copy(update={"max_attempts": 400}))
    assert done.complete and done.records[: len(spent.records)] == spent.records
    # The attempts need not be named again.
    again = run(tmp_path / "run", LARGE)
    assert again.complete and again.config.max_attempts == 400


def test_labels_grow_and_more_are_added(tmp_path: Path) -> None:
    real = stub.corpus(40, labels=("a", "b"))
    expert = stub.StubExpert(labels=("a", "b"), prompt="A {label} line:")
    for labels in ({"a": 5}, {"a": 8, "b": 3}):
        config = RunConfig(labels=labels, round_size=16, panel_size=5)
        made = generate(config, real, expert, stub.StubEngine(real), tmp_path / "run")
        assert made.complete and made.counts == labels


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 10}, "n is 20 there and 10 now, and may only grow"),
        ({"n": None, "labels": {"a": 30}}, "n is 20 there and 0 now"),
        ({"n": 30, "seed": 4}, "seed is 0 there and 4 now"),
        ({"max_attempts": 20}, "max_attempts is 80 there and 20 now"),
    ],
)
def test_nothing_else_changes(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    run(tmp_path / "run", SMALL)
    expert = stub.StubExpert(labels=("a",), prompt="A {label}") if "labels" in changed else None
    with pytest.raises(SteerError, match=message):
        generate(
            RunConfig(**dict(SMALL) | changed),
            REAL,
            expert or stub.StubExpert(),
            stub.StubEngine(REAL),
            tmp_path / "run",
        )
    assert not list((tmp_path / "run").glob("grown-*"))


def test_a_damaged_growth_is_an_error(tmp_path: Path) -> None:
    run(tmp_path / "run", SMALL)
    run(tmp_path / "run", LARGE)
    path = tmp_path / "run" / "grown-1.json"
    kept = json.loads(path.read_text())
    for content in ("{", "{}", json.dumps({name: kept[name] for name in kept if name != "n"})):
        path.write_text(content)
        with pytest.raises(SteerError, match=r"damaged|format"):
            Run.open(tmp_path / "run")

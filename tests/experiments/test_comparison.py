import json
from pathlib import Path
from typing import Any

import pytest

from steer.data.tasks import Task
from steer.errors import SteerError
from steer.evaluation.settings import EvaluationSettings
from steer.experiments import comparison
from steer.experiments.comparison import (
    Comparison,
    compare,
    evaluate_comparison,
    sweep,
    utility,
)
from steer.experiments.setup import Setup, check_size, spread
from steer.methods import find_methods
from steer.runs.generation import RunProgress
from steer.runs.store import Run
from tests import stub

REAL = stub.corpus()
METHODS = find_methods("nucleus,steer:gamma=0.4", labelled=False)


def setup(**changes: Any) -> Setup:
    given = {"wanted": spread(12, ()), "max_new_tokens": 20, "command": "steer compare x"}
    engine = stub.StubEngine(REAL)
    return Setup(**{"real": REAL, "expert": stub.StubExpert(), "engine": engine} | given | changes)


def test_records_over_the_labels() -> None:
    assert spread(5, ()) == {None: 5}
    assert spread(5, ("a", "b", "c")) == {"a": 2, "b": 2, "c": 1}
    with pytest.raises(SteerError, match="fewer than the 3 labels"):
        spread(2, ("a", "b", "c"))


def test_a_run_of_each_method(tmp_path: Path) -> None:
    seen: list[str] = []
    found = compare(METHODS, setup(), tmp_path / "out", lambda entry, _: seen.append(entry.name))
    assert list(dict.fromkeys(seen)) == ["nucleus", "steer:gamma=0.4"]
    assert Comparison.open(tmp_path / "out") == found
    for entry, method in zip(found.entries, METHODS, strict=True):
        run = Run.open(tmp_path / "out" / entry.run)
        assert (run.config.guidance, run.config.total) == (method.guidance, 12)
        assert run.config.sampling.max_new_tokens == 20
        assert (entry.wanted, entry.accepted) == (12, len(run.records))
        assert entry.attempts == len(run.records) + len(run.rejects)
        assert entry.tokens == 10 * entry.attempts
        assert entry.settings == method.settings
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (written["command"], written["grid"]) == ("steer compare x", None)


def test_checks_are_those_of_every_run(tmp_path: Path) -> None:
    given = setup(checks={"near": 0.6, "candidates": 1}, forbid=stub.corpus(3))
    found = compare(METHODS, given, tmp_path / "methods")
    swept = comparison.sweep({"gamma": [0, 1], "eta": [0]}, METHODS[1], given, tmp_path / "grid")
    for entry, folder in [(e, "methods") for e in found.entries] + [(swept.entries[1], "grid")]:
        run = Run.open(tmp_path / folder / entry.run)
        assert run.config.near == 0.6
        assert run.sources.forbid_fingerprint == given.forbid.fingerprint


def test_a_stopped_comparison_continues_and_takes_methods_in(tmp_path: Path) -> None:
    def stop(entry: comparison.Entry, progress: RunProgress) -> None:
        if entry.name != "nucleus" and progress.attempts:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(METHODS, setup(), tmp_path, stop)
    stopped = Comparison.open(tmp_path)
    assert [entry.name for entry in stopped.entries] == ["nucleus"]
    both = compare(METHODS[1:], setup(), tmp_path)
    assert [entry.name for entry in both.entries] == ["nucleus", "steer:gamma=0.4"]
    assert both.entries[0] == stopped.entries[0]
    engine = stub.StubEngine(REAL)
    again = compare(METHODS, setup(engine=engine), tmp_path)
    assert (again, engine.calls) == (both, 0)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear all")
    with pytest.raises(SteerError, match="is no comparison"):
        compare(METHODS, setup(), tmp_path / "mine")
    compare(METHODS[:1], setup(), tmp_path / "out")
    with pytest.raises(SteerError, match="another kind or task"):
        sweep({"gamma": [0.0], "eta": [0.0]}, METHODS[1], setup(), tmp_path / "out")
    with pytest.raises(SteerError, match="other settings"):
        compare(METHODS[:1], setup(seed=1), tmp_path / "out")
    (tmp_path / "out" / "comparison.json").write_text('{"format": 1}')
    with pytest.raises(SteerError, match="damaged"):
        Comparison.open(tmp_path / "out")


def test_a_panel_that_is_too_large_shows_before_any_method_is_run(tmp_path: Path) -> None:
    engine = stub.StubEngine(REAL)
    methods = find_methods("plain,steer:panel_size=31", labelled=False)
    with pytest.raises(SteerError, match="a panel needs 31 real texts but there are 30"):
        compare(methods, setup(engine=engine), tmp_path / "out")
    assert engine.calls == 0


def test_too_few_records_or_texts_to_measure() -> None:
    check_size(10, stub.corpus(20))
    with pytest.raises(SteerError, match="--n is 9: an evaluation needs 10 records"):
        check_size(9, stub.corpus(20))
    with pytest.raises(SteerError, match="stub has 19 texts: an evaluation needs 20 real ones"):
        check_size(10, stub.corpus(19))


def test_a_method_with_fewer_records_than_can_be_measured_is_left_out() -> None:
    """It would end the evaluation of all the others."""
    assert comparison.Entry("few", "runs/few", {}, wanted=12, accepted=9).short
    assert not comparison.Entry("few", "runs/few", {}, wanted=12, accepted=10).short


def test_a_sweep_mixes_settings_in_a_batch(tmp_path: Path) -> None:
    engine = stub.StubEngine(REAL)
    axes = {"gamma": [0.0, 0.5], "eta": [0.0, 0.3, 1.0]}
    found = sweep(axes, METHODS[1], setup(engine=engine), tmp_path)
    assert found.grid == {"x": "gamma", "y": "eta"}
    cells = [entry.cell for entry in found.entries]
    assert cells == [{"gamma": g, "eta": e} for e in axes["eta"] for g in axes["gamma"]]
    for entry in found.entries:
        guidance = Run.open(tmp_path / entry.run).config.guidance
        assert {"gamma": guidance.gamma, "eta": guidance.eta} == entry.cell
        assert guidance.alpha == METHODS[1].guidance.alpha
    first = engine.requests[: 6 * 12]
    assert len({len(request.streams) for request in first}) == 3
    assert engine.calls < sum(Run.open(tmp_path / entry.run).rounds for entry in found.entries)
    again = stub.StubEngine(REAL)
    assert sweep(axes, METHODS[1], setup(engine=again), tmp_path) == found
    assert again.calls == 0


def test_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method with most of its records, beside texts the expert never saw."""
    found = compare(METHODS, setup(), tmp_path)
    few = comparison.Entry("few", found.entries[0].run, {}, wanted=100, accepted=74)
    given: dict[str, Any] = {}

    class Result:
        def to_json(self) -> dict[str, int]:
            return {"n": 12}

    def evaluate(sets: dict[str, Any], real: object, **others: Any) -> Result:
        given.update(sets=sets, real=real, **others)
        return Result()

    monkeypatch.setattr(comparison, "evaluate", evaluate)
    test, settings = stub.corpus(40, seed=9), EvaluationSettings(seed=3)
    with_few = Comparison(*(tmp_path, "c", "e", {}, (*found.entries, few)))
    evaluate_comparison(with_few, test, REAL, settings)
    assert list(given["sets"]) == ["nucleus", "steer:gamma=0.4"]
    assert given["sets"]["steer:gamma=0.4"] == Run.open(tmp_path / found.entries[1].run)
    assert (given["real"], given["train"], given["settings"]) == (test, REAL, settings)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"n": 12}
    with pytest.raises(SteerError, match=r"no method .* has 75% of its records"):
        evaluate_comparison(Comparison(tmp_path, "", "", {}, (few,)), test, REAL, settings)


def test_what_a_classifier_could_learn() -> None:
    assert utility(Task("Say:")) is None
    assert utility(Task("Say {label}:", ("a", "b"))) == "labels"
    assert utility(Task("Ask:", form="question")) == "answers"

import dataclasses
import fcntl
import json
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steer.config import Sampling
from steer.data.corpus import Corpus
from steer.engines.interface import Completion, Request
from steer.errors import SteerError
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import EvaluationProgress
from steer.evaluation.summary import PARTS, harmonic_mean
from steer.experiments import measuring, tuning
from steer.experiments.setup import Setup
from steer.experiments.spaces import SPACES, Space, find_starts, propose
from steer.experiments.trials import Trial, conclude, front, luck, noise
from steer.experiments.tuning import TuneProgress, TuneSettings, Tuning, command, tune
from steer.methods import METHODS, find_method
from steer.runs.budget import parse_budget
from steer.runs.store import Run
from tests import stub

REAL = stub.corpus(60)
BY_NAME = {method.name: method for method in METHODS}
KEYS = (*(key for key in PARTS if key != "coherence_score"), "summary")


class TellingEngine(stub.StubEngine):
    """Each text tells the settings that it was made with; `share` of them are long enough."""

    def __init__(self, share: Callable[[float], float] = lambda gamma: 1.0) -> None:
        super().__init__(REAL)
        self.share, self.temperature = share, 1.0

    def generate(self, requests: Any, sampling: Sampling, on_step: Any = None) -> list[Completion]:
        self.temperature = sampling.temperature
        return super().generate(requests, sampling, on_step)

    def _complete(self, request: Request) -> Completion:
        rng = random.Random(f"{request.seed} {request.streams}")
        gamma = -sum(s.weight for s in request.streams if s.name == "base")
        told = f"gamma {gamma} alpha {request.alpha} heat {self.temperature}"
        good = rng.random() < self.share(gamma)
        text = f" {stub.sentence(rng)} {told}\n" if good else "x"
        return Completion(request.id, text, 10, "stop", {})


def told(text: str, name: str) -> float:
    found = re.search(rf"{name} (\S+)", text)
    assert found
    return float(found[1])


def fake_evaluate(objective: Callable[[str], dict[str, float]]) -> Callable[..., SimpleNamespace]:
    """An evaluation whose components are the means over the texts of what `objective` gives."""

    def evaluate(
        sets: Any, real: Any, *, train: Any, settings: Any, on_progress: Any
    ) -> SimpleNamespace:
        on_progress(EvaluationProgress("measuring", 1, 1))
        rows = [
            SimpleNamespace(name=name, estimates=_estimates(given.texts, objective))
            for name, given in sets.items()
        ]
        return SimpleNamespace(rows=rows, n=min(len(given.texts) for given in sets.values()))

    return evaluate


def _estimates(
    texts: list[str], objective: Callable[[str], dict[str, float]]
) -> dict[str, Estimate]:
    each = [objective(text) for text in texts]
    found = {key: _mean(np.array([one[key] for one in each])) for key in each[0]}
    return {key: Estimate(None, reason="no judge") for key in (*PARTS, "summary")} | found


def _mean(values: np.ndarray) -> Estimate:
    mean, error = float(values.mean()), float(values.std() / len(values) ** 0.5)
    return Estimate(mean, mean - 1.96 * error, mean + 1.96 * error)


def far_peak(text: str) -> dict[str, float]:
    """Best at gamma 1.2, which the defaults (0.5) and plain sampling (0) are far from; a high
    temperature trades fidelity for diversity."""
    near = 1 - abs(told(text, "gamma") - 1.2) / 1.5
    heat = told(text, "heat") - 1
    return {
        "fidelity_score": near * (0.9 - 0.3 * heat),
        "diversity_score": near * (0.9 + 0.3 * heat),
        "non_copying_score": 0.95,
    }


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "evaluate", fake_evaluate(far_peak))


def setup(engine: Any = None, real: Corpus = REAL, labels: tuple[str, ...] = ()) -> Setup:
    prompt = "Write a {label} line:" if labels else "Write a line:"
    return Setup(
        real,
        stub.StubExpert(labels, prompt),
        engine or TellingEngine(),
        {},
        40,
        expert_path="my expert",
    )


def tune_in(
    out: Path,
    method: str = "contrastive-decoding",
    engine: Any = None,
    on_progress: Any = None,
    **settings: Any,
) -> Tuning:
    given = TuneSettings(**{"n": 20, "trials": 4} | settings)
    return tune(method, setup(engine), REAL, REAL, out, settings=given, on_progress=on_progress)


def state(out: Path) -> dict[str, Any]:
    """The file of a search, but for times."""
    values = json.loads((out / "tuning.json").read_bytes())
    del values["search"]["settings"]
    for trial in values["trials"]:
        trial["seconds"] = 0
    return values


# --- what is searched


@pytest.mark.parametrize("method", SPACES)
def test_a_search_starts_from_the_defaults_and_from_plain_sampling(method: str) -> None:
    starts = find_starts(method, SPACES[method])
    tried = {name: Trial(0, "search", start).method(method) for name, start in starts.items()}
    assert tried["defaults"].model_copy(update={"name": method}) == BY_NAME[method]
    if method == "plain":
        assert list(tried) == ["defaults"]
        return
    strengths = tried["plain"].guidance
    assert (strengths.gamma, strengths.eta, strengths.rho, strengths.alpha) == (0, 0, 0, 0)
    assert tried["plain"].sampling.model_copy(update={"opening": 0}) == Sampling()


@pytest.mark.parametrize("method", SPACES)
def test_every_proposal_is_a_valid_run_within_the_space(method: str) -> None:
    space, rng = SPACES[method], random.Random(0)
    tried = [(start, (0.5, 0.5)) for start in find_starts(method, space).values()]
    for seed in range(25):
        settings = propose(space, tried, seed)
        assert settings == pytest.approx(space.decode(space.encode(settings)))
        run = Trial(0, "search", settings).method(method).configure({"n": 1}, 40)
        assert 0.7 <= run.sampling.temperature <= 1.3
        assert run.guidance.gamma <= 1.5
        assert run.guidance.eta <= 1
        assert run.guidance.alpha == 0 or 1e-4 <= run.guidance.alpha <= 0.3
        assert run.sampling.top_k == 0 or 2 <= run.sampling.top_k <= 200
        tried.append((settings, (rng.random(), rng.random())))
    for name in space.axes:
        assert len({settings[name] for settings, _ in tried}) > 1


def test_some_proposals_switch_the_constraint_off() -> None:
    alphas = [propose(SPACES["cfg"], [], seed)["alpha"] for seed in range(60)]
    assert 3 <= alphas.count(0) <= 25
    assert min(alpha for alpha in alphas if alpha) < 1e-3 < 1e-2 < max(alphas)


def test_a_proposal_depends_on_history_and_seed_only() -> None:
    space, rng = SPACES["steer"], random.Random(1)
    tried: list[tuple[dict[str, Any], tuple[float, ...]]] = []
    for seed in range(14):
        tried.append((propose(space, tried, seed), (rng.random(), rng.random())))
    assert propose(space, tried, 3) == propose(space, tried, 3)
    assert propose(space, tried, 3) != propose(space, tried, 4)
    assert propose(space, tried, 3) != propose(space, [*tried[:-1], (tried[-1][0], (1, 1))], 3)


def test_panels_are_no_larger_than_the_texts_allow(tmp_path: Path) -> None:
    few = stub.corpus(8)
    given = TuneSettings(n=20, trials=9)
    found = tune("steer", setup(real=few), REAL, few, tmp_path / "t", settings=given)
    sizes = {trial.settings["panel_size"] for trial in found.trials}
    assert max(sizes) <= 8 and len(sizes) > 2
    assert SPACES["steer"].with_panels_of(100) == SPACES["steer"]


def test_a_method_without_a_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SteerError, match=r"'greedy' cannot be tuned .*; choose from steer, plain, nucleus"
    ):
        tune_in(tmp_path / "t", "greedy")
    assert not (tmp_path / "t").exists()


# --- what it finds


def test_the_search_finds_the_better_regime(tmp_path: Path) -> None:
    found = tune_in(tmp_path / "t", trials=30)
    best = found.recommended
    assert abs(best.settings["gamma"] - 1.2) <= 0.15
    starts = [trial for trial in found.trials if trial.origin != "search"]
    assert [trial.origin for trial in starts] == ["defaults", "plain"]
    assert best.summary > max(trial.summary for trial in starts) + 0.2
    late = [trial.settings["gamma"] > 0.75 for trial in found.trials[15:]]
    assert np.mean(late) >= 0.7  # half of them at random


def test_the_front_by_hand() -> None:
    def trial(number: int, *values: float, state: str = "done") -> Trial:
        components = dict(zip(KEYS, values, strict=False))
        return Trial(number, "search", {}, state, components=components)  # type: ignore[arg-type]

    trials = [
        trial(0, 0.5, 0.5, 0.5),
        trial(1, 0.5, 0.5, 0.4),  # worse than 0
        trial(2, 0.9, 0.1, 0.5),
        trial(3, 0.5, 0.5, 0.5),  # equal to 0
        trial(4, 0.1, 0.9, 0.1),
        trial(5, 0.9, 0.1, 0.4),  # worse than 2
        trial(6, 1.0, 1.0, 1.0, state="failed"),
        trial(7, 1.0, 1.0, 1.0, state="running"),
    ]
    assert [each.number for each in front(trials)] == [0, 2, 3, 4]
    assert {each.number for each in front(trials[::-1])} == {0, 2, 3, 4}


def test_the_recommended_trial_has_the_highest_summary_of_the_front(tmp_path: Path) -> None:
    found = tune_in(tmp_path / "t", trials=8)
    assert found.recommended.number in found.front
    assert found.recommended.summary == max(trial.summary for trial in found.trials)
    saved = json.loads((tmp_path / "t" / "tuning.json").read_bytes())
    assert saved["recommended"] == found.recommended.number
    assert saved["front"] == list(found.front)
    assert saved["reason"] == found.reason
    assert saved["command"] == command(found)
    assert [trial["number"] for trial in saved["trials"]] == list(range(8))
    assert saved["trials"][3]["run"] == "runs/trial-0003"


def test_a_trial_is_a_run_with_its_settings(tmp_path: Path) -> None:
    found = tune_in(tmp_path / "t", "steer", trials=5)
    for trial in found.trials:
        run = Run.open(tmp_path / "t" / trial.run)
        assert len(run.records) == trial.accepted == trial.texts == 20
        assert run.config.guidance.gamma == trial.settings["gamma"]
        assert run.config.sampling.temperature == trial.settings["temperature"]
        assert run.config.panel_size == trial.settings["panel_size"]
        assert run.config.seed == 0


def test_trials_with_too_few_records_fail_and_are_avoided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others are alike, so that nothing but the failures can steer the search."""
    monkeypatch.setattr(
        measuring, "evaluate", fake_evaluate(lambda text: dict.fromkeys(KEYS[:3], 1))
    )
    engine = TellingEngine(share=lambda gamma: 0.02 if gamma > 0.7 else 1.0)
    found = tune_in(tmp_path / "t", engine=engine, trials=30)
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert failed and all(trial.settings["gamma"] > 0.7 for trial in failed)
    assert re.match(
        r"only \d of 20 records were accepted \(rejected: \d+ short\)", failed[0].reason or ""
    )
    assert not {trial.number for trial in failed} & set(found.front)
    late = [trial.state == "failed" for trial in found.trials[15:]]
    assert np.mean(late) <= 0.25  # over half of them at random


def test_no_trial_that_can_be_measured_is_an_error(tmp_path: Path) -> None:
    engine = TellingEngine(share=lambda gamma: 0.0)
    failed = r"none of the 2 trials .* only 0 of 20 .* \(rejected: 40 short\)"
    with pytest.raises(SteerError, match=failed):
        tune_in(tmp_path / "t", engine=engine, trials=2)
    assert len(state(tmp_path / "t")["trials"]) == 2


def test_labels_share_the_records(tmp_path: Path) -> None:
    real = stub.corpus(60, labels=("hot", "cold"))
    given = TuneSettings(n=21, trials=2)
    stage = setup(real=real, labels=("hot", "cold"))
    found = tune("steer", stage, real, real, tmp_path / "t", settings=given)
    assert Run.open(tmp_path / "t" / "runs" / "trial-0001").counts == {"hot": 11, "cold": 10}
    assert "--label=hot=500 --label=cold=500 --out run" in command(found)


# --- how sure it is


def test_noise_is_the_spread_between_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts whose values are independent: the standard error of their mean is known."""

    def objective(text: str) -> dict[str, float]:
        rng = random.Random(text)
        return {key: rng.gauss(0.6, 0.1) for key in KEYS[:3]}

    monkeypatch.setattr(measuring, "evaluate", fake_evaluate(objective))
    found = tune_in(tmp_path / "t", trials=30, n=20)
    assert set(found.noise) == set(KEYS)
    for key in KEYS[:3]:
        spread = np.std([trial.components[key] for trial in found.trials])
        assert 0.8 < found.noise[key] / (0.1 / 20**0.5) < 1.2
        assert 0.6 < found.noise[key] / spread < 1.6
    spread = np.std([trial.summary for trial in found.trials])
    assert 0.6 < found.noise["summary"] / spread < 1.6
    assert "is within the noise" in found.reason


def test_without_a_judge_the_mean_of_the_other_parts_ranks(tmp_path: Path) -> None:
    found = tune_in(tmp_path / "t", trials=3)
    for trial in found.trials:
        parts = [trial.components[key] for key in KEYS[:3]]
        assert trial.summary == pytest.approx(harmonic_mean(parts))
        slopes = [trial.summary**2 / (3 * part**2) for part in parts]
        expected = sum(
            slope**2 * trial.variances[key] for slope, key in zip(slopes, KEYS[:3], strict=True)
        )
        assert trial.variances["summary"] == pytest.approx(expected)
    assert "has the highest mean" in found.reason
    assert "Coherence was not measured" in found.reason and "--judge" in found.reason


def test_with_a_judge_the_evaluation_s_own_summary_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts and summary may be above 1."""
    values = dict.fromkeys(PARTS, 1.1) | {"summary": 1.05}
    monkeypatch.setattr(measuring, "evaluate", fake_evaluate(lambda text: values))
    monkeypatch.setattr(measuring, "base_fingerprint", lambda judge: "another family")
    found = tune_in(tmp_path / "t", trials=2, judges=("judge",))
    assert found.recommended.components == pytest.approx(values)
    assert "has the highest summary, 1.05" in found.reason
    assert "Coherence was not measured" not in found.reason


def test_judges_of_the_model_that_writes_are_refused_before_the_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TellingEngine()
    own = {"sibling": stub.StubExpert.base_fingerprint, "other": "another family"}
    monkeypatch.setattr(measuring, "base_fingerprint", own.get)
    with pytest.raises(SteerError, match=r"sibling is of the base model .* name a model of"):
        tune_in(tmp_path / "t", engine=engine, judges=("sibling",))
    assert engine.calls == 0
    measuring.check_judges(("sibling", "other"), own["sibling"])


def test_a_variance_is_that_of_its_interval() -> None:
    assert measuring.variance(Estimate(0.5, 0.402, 0.598)) == pytest.approx(0.05**2)
    assert measuring.variance(Estimate(0.5, sd=0.1)) is None


def test_noise_by_hand() -> None:
    trials = [
        Trial(0, "defaults", {}, variances={"summary": 0.01, "fidelity_score": 0.04}),
        Trial(1, "search", {}, variances={"summary": 0.03}),
        Trial(2, "search", {}),
    ]
    assert noise(trials) == pytest.approx({"summary": 0.02**0.5, "fidelity_score": 0.2})


def reason(gain: float, variance: float | None = 1e-6, judged: bool = False) -> str:
    """Of a search whose best trial is better than the defaults by `gain`."""

    def trial(number: int, origin: Any, fidelity: float) -> Trial:
        # A difference that rounds to nothing is shown without a minus.
        values = (fidelity, 0.8 - 0.001 * number, 0.9, fidelity - 0.1)
        known = {} if variance is None else {"summary": variance}
        components = dict(zip(KEYS, values, strict=True))
        if judged:
            components |= {"coherence_score": 0.9}
        return Trial(number, origin, {}, "done", 1, 64, 64, components, known)

    trials = [trial(0, "defaults", 0.5), trial(1, "plain", 0.3), trial(2, "search", 0.5 + gain)]
    return trial_reason(trials)


def trial_reason(trials: list[Trial]) -> str:
    found = conclude("steer", setup(), trials)
    assert found
    return found.reason


@pytest.mark.parametrize("trials", [2, 5, 30])
def test_luck_is_rarely_exceeded_by_equal_trials(trials: int) -> None:
    draws = np.random.default_rng(0).standard_normal((20_000, trials))
    ahead = draws.max(axis=1) - draws[:, 0]
    assert 0.02 < np.mean(ahead > luck(trials)) <= 0.052


def test_the_reason_in_words() -> None:
    assert reason(gain=0.2) == (
        "Of 3 trials, trial 2 has the highest mean, 0.60: fidelity 0.70, diversity 0.80, "
        "non-copying 0.90. Coherence was not measured, so settings that write nonsense may be the "
        "best here: name a judge with --judge. Against the method's defaults: mean +0.20: "
        "fidelity +0.20, diversity +0.00, non-copying +0.00. Against plain sampling: mean +0.40: "
        "fidelity +0.40, diversity +0.00, non-copying +0.00."
    )
    judged = reason(gain=0.2, judged=True)
    assert "has the highest summary, 0.60: fidelity 0.70, diversity 0.80, coherence 0.90" in judged
    assert "summary +0.20" in judged and "not measured" not in judged


def test_the_reason_warns_of_noise() -> None:
    doubt = "the gain over the method's defaults is within the noise"
    assert doubt in reason(gain=0.2, variance=0.08**2)  # 2.77 x 0.08 = 0.22
    assert "The best of 3 trials that were all alike would be ahead by up to 0.22" in reason(
        gain=0.2, variance=0.08**2
    )
    assert "noise" not in reason(gain=0.2, variance=0.06**2)
    assert "defaults and plain sampling is within" in reason(gain=0.2, variance=0.3**2)
    assert "could not be measured" in reason(gain=0.2, variance=None)
    assert "trial 0, the method's defaults, has" in reason(gain=-0.1)
    assert "Against the method's defaults" not in reason(gain=-0.1)


def test_the_command_has_the_recommended_settings(tmp_path: Path) -> None:
    found = tune_in(tmp_path / "t", trials=3)
    words = shlex.split(command(found))
    assert words[:5] == ["steer", "generate", "my expert", "--real", "stub"]
    named = find_method(words[words.index("--method") + 1], labelled=False)
    assert named.guidance.gamma == found.recommended.settings["gamma"]
    assert words[-4:] == ["--n", "1000", "--out", "run"]


# --- stopping and going on


def test_a_search_continued_is_one_never_stopped(tmp_path: Path) -> None:
    tune_in(tmp_path / "whole", trials=11)
    for trials in (1, 3, 10, 11):
        tune_in(tmp_path / "parts", trials=trials)
    assert state(tmp_path / "parts") == state(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["generating", "measuring"])
def test_a_search_stopped_within_a_trial_goes_on(tmp_path: Path, stage: str) -> None:
    def stop(progress: TuneProgress) -> None:
        if progress.number == 2 and progress.stage == stage:
            raise KeyboardInterrupt

    tune_in(tmp_path / "whole", trials=5)
    with pytest.raises(KeyboardInterrupt):
        tune_in(tmp_path / "parts", trials=5, on_progress=stop)
    stopped = state(tmp_path / "parts")
    assert [trial["state"] for trial in stopped["trials"]] == ["done", "done", "running"]
    assert stopped["recommended"] in (0, 1)
    engine = TellingEngine()
    tune_in(tmp_path / "parts", trials=5, engine=engine)
    assert engine.calls == (3 if stage == "generating" else 2)  # finished runs are not made again
    assert state(tmp_path / "parts") == state(tmp_path / "whole")


def test_what_a_kill_leaves_goes_on(tmp_path: Path) -> None:
    """A copy of the folder at any moment is what a kill at that moment leaves."""
    copies: dict[tuple[int, str], Path] = {}

    def copy(progress: TuneProgress) -> None:
        key = (progress.number, progress.stage)
        if key not in copies:
            copies[key] = tmp_path / f"{progress.number}-{progress.stage}"
            shutil.copytree(tmp_path / "whole", copies[key])

    tune_in(tmp_path / "whole", trials=3, on_progress=copy)
    assert len(copies) == 6
    for left in copies.values():
        assert state(left)["trials"][-1]["state"] == "running"
        tune_in(left, trials=3)
        assert state(left) == state(tmp_path / "whole")


class Clock:
    """Time that passes only while the engine works: `step` seconds a record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
        self.now, self.step = 100.0, step
        monkeypatch.setattr(tuning, "monotonic", lambda: self.now)

    def tick(self) -> None:
        self.now += self.step


def timed(clock: Clock) -> TellingEngine:
    engine = TellingEngine()
    engine.pause = clock.tick
    return engine


def test_the_budget_ends_the_search_and_counts_what_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = timed(Clock(monkeypatch, 0.5))  # 10 s a trial
    for budget, trials in ((35, 3), (35, 3), (39, 3), (62, 6)):
        found = tune_in(tmp_path / "t", engine=engine, budget=budget, trials=None)
        assert [trial.seconds for trial in found.trials] == [10.0] * trials
    assert len(tune_in(tmp_path / "u", engine=engine, budget=1, trials=None).trials) == 1


def test_time_of_a_killed_trial_is_on_disk_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, seen = timed(Clock(monkeypatch, 2.0)), []

    def look(progress: TuneProgress) -> None:
        saved = json.loads((tmp_path / "t" / "tuning.json").read_bytes())["trials"][-1]
        seen.append((saved["state"], saved["seconds"]))

    found = tune_in(tmp_path / "t", engine=engine, trials=1, on_progress=look)
    assert max(seconds for name, seconds in seen if name == "running") >= 30
    assert found.trials[0].seconds == 40


def test_time_before_a_stop_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(progress: TuneProgress) -> None:
        if progress.stage == "measuring":
            raise KeyboardInterrupt

    engine = timed(Clock(monkeypatch, 0.5))
    with pytest.raises(KeyboardInterrupt):
        tune_in(tmp_path / "t", engine=engine, on_progress=stop)
    assert json.loads((tmp_path / "t" / "tuning.json").read_bytes())["trials"][0]["seconds"] == 10
    found = tune_in(tmp_path / "t", engine=engine, trials=1)
    assert found.trials[0].seconds == 10


def test_progress_counts_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[TuneProgress] = []
    engine = timed(Clock(monkeypatch, 0.5))
    tune_in(tmp_path / "t", engine=engine, budget=100, trials=3, on_progress=seen.append)
    lefts = [progress.seconds_left for progress in seen]
    assert lefts == sorted(lefts, reverse=True)
    assert (lefts[0], lefts[-1]) == (100, 70)
    assert (seen[0].trials, seen[0].best, seen[0].limit) == (0, None, 3)
    assert seen[-1].trials == 2 and seen[-1].best is not None
    assert {progress.stage for progress in seen} == {"generating", "measuring"}
    assert {progress.number for progress in seen} == {0, 1, 2}


def test_a_tuning_of_an_older_steer_opens_and_goes_no_further(tmp_path: Path) -> None:
    """Its figures had other meanings; its trials did not say which."""
    new = tune_in(tmp_path / "t", trials=3)
    path = tmp_path / "t" / "tuning.json"
    values = json.loads(path.read_bytes())
    for trial in values["trials"]:
        del trial["measures"]
    path.write_text(json.dumps(values))
    old = tune_in(tmp_path / "t", trials=3)
    assert [trial.measures for trial in old.trials] == [1, 1, 1]
    assert (old.recommended.number, old.reason) == (new.recommended.number, new.reason)
    with pytest.raises(SteerError, match="of an older steer"):
        tune_in(tmp_path / "t", trials=4)
    assert len(json.loads(path.read_bytes())["trials"]) == 3


# --- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 22}, "settings.n is 20 there and 22 now"),
        ({"seed": 1}, "settings.seed is 0 there and 1 now"),
        ({"judges": ("other",)}, "settings.judges is"),
        ({"method": "cfg"}, "method is 'contrastive-decoding' there and 'cfg' now"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    tune_in(tmp_path / "t", trials=1)
    before = state(tmp_path / "t")
    with pytest.raises(SteerError, match=words):
        tune_in(tmp_path / "t", **{"trials": 1} | change)
    assert state(tmp_path / "t") == before


@pytest.mark.parametrize("which", ["pool", "real", "train"])
def test_other_texts_are_refused(tmp_path: Path, which: str) -> None:
    tune_in(tmp_path / "t", trials=1)
    other = stub.corpus(60, seed=9)
    texts = {name: other if name == which else REAL for name in ("pool", "real", "train")}
    with pytest.raises(SteerError, match=f"{'data' if which == 'pool' else which} is "):
        tune(
            "contrastive-decoding",
            setup(real=texts["pool"]),
            texts["real"],
            texts["train"],
            tmp_path / "t",
            settings=TuneSettings(n=20, trials=1),
        )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(SteerError, match="no tuning; choose another folder"):
            tune_in(out)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    trial = {"number": 0, "origin": "defaults", "settings": {}}
    for content in (
        '{"format": 1}',
        "[" * 200_000,
        json.dumps({"format": 1, "search": [], "trials": [trial]}),
        json.dumps({"format": 1, "search": {}, "trials": [trial | {"seconds": "1"}]}),
    ):
        (tmp_path / "tuning.json").write_text(content)
        with pytest.raises(SteerError, match=r"tuning.json is damaged"):
            tune_in(tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SteerError, match="another process tunes in"):
            tune_in(tmp_path)
    assert tune_in(tmp_path, trials=1).trials


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 2 h ", 7200)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "0m", "1d", "1h30m", "1e3s", "nan s"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(SteerError, match=r"write a time such as 90s, 20m or 1\.5h"):
        parse_budget(text)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"n": 19}, {"budget": 0}, {"trials": 0}):
        with pytest.raises(SteerError, match=next(iter(wrong))):
            TuneSettings(**wrong)


# --- with the real evaluation


def test_a_search_with_the_real_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steer.evaluation import evaluate as evaluation
    from tests.evaluation.test_evaluate import StubEmbedder

    monkeypatch.setattr(measuring, "evaluate", evaluation.evaluate)
    monkeypatch.setattr(evaluation, "load_embedder", lambda name, cache: StubEmbedder())
    found = tune_in(tmp_path / "t", trials=2)
    for trial in found.trials:
        assert set(trial.components) == set(KEYS)
        assert all(value >= 0 for value in trial.components.values())
        # All texts end with their settings, so fidelity is 0, and the mean of its parts too.
        assert set(trial.variances) >= set(KEYS[:3])
        assert trial.texts == 20
    assert dataclasses.asdict(found)["noise"] == found.noise


def test_a_space_is_data() -> None:
    axes = {"temperature": SPACES["plain"].axes["temperature"]}
    assert Space(axes=axes).fingerprint() == SPACES["plain"].fingerprint()
    assert len({space.fingerprint() for space in SPACES.values()}) == len(SPACES) - 1

"""Trials of a tuning: which are best, how sure that is, and what to say and type."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

from pydantic import ConfigDict

from steer.evaluation.summary import PARTS, pareto_front
from steer.experiments.setup import Setup
from steer.methods import Method, find_method

State = Literal["running", "done", "failed"]
Origin = Literal["defaults", "plain", "search"]

SUMMARY = "summary"
MEASURES = 2
"""Version of the figures. In 1 the parts had other meanings, and none was above 1."""

COHERENCE = "coherence_score"
_UNJUDGED = (
    "Coherence was not measured, so settings that write nonsense may be the best here: name a "
    "judge with --judge."
)
_CHANCE = 0.05
_RECORDS = 1000  # in the command that is shown


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and what came of it.

    `components` are those of an evaluation's summary, by their keys (`PARTS` of
    `steer.evaluation.summary`) and with "summary", the harmonic mean of those measured; empty
    unless "done". They are measured on `texts` of the records. `variances` are theirs over texts,
    from their intervals: see `noise`. `reason` says why a trial failed. Figures of other
    `measures` than `MEASURES` are an older steer's.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    number: int
    origin: Origin
    settings: Mapping[str, Any]
    state: State = "running"
    seconds: float = 0.0
    accepted: int = 0
    texts: int = 0
    components: Mapping[str, float] = field(default_factory=dict)
    variances: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    measures: int = 1

    @property
    def run(self) -> str:
        """Folder of the trial's run, in that of the tuning."""
        return f"runs/trial-{self.number:04}"

    @property
    def summary(self) -> float:
        """Harmonic mean of the components; 0 for a trial that is not done."""
        return self.components.get(SUMMARY, 0.0)

    @property
    def judged(self) -> bool:
        """Whether coherence was measured; where not, the mean of the parts is no summary."""
        return COHERENCE in self.components

    def method(self, base: str) -> Method:
        """Adjusts the method `base` to the settings, under a name that the command line takes."""
        parts = (f"{name}={value}" for name, value in self.settings.items())
        return find_method(":".join((base, *parts)), labelled=False)


@dataclass(frozen=True)
class Tuning:
    """A tuning, finished or not: all its `trials`, the numbers of those on the Pareto `front`, the
    `recommended` one and the `reason` in words. `noise` is the standard error of each component
    of a trial; empty when it is not known. `method` was tuned for records like the texts of `real`
    by the expert in the folder `expert`, which has the `labels`. With the `options`, `steer
    generate` makes what the trials made."""

    method: str
    expert: str
    real: str
    labels: tuple[str, ...]
    trials: tuple[Trial, ...]
    front: tuple[int, ...]
    noise: Mapping[str, float]
    recommended: Trial
    reason: str
    options: tuple[str, ...] = ()


def conclude(method: str, setup: Setup, trials: Sequence[Trial]) -> Tuning | None:
    """Concludes what the trials so far come to; None while none is done."""
    best = front(trials)
    if not best:
        return None
    recommended = max(best, key=lambda trial: trial.summary)  # the first of equals
    return Tuning(
        method,
        setup.expert_path,
        setup.real.source,
        tuple(setup.expert.task.labels),
        tuple(trials),
        tuple(trial.number for trial in best),
        noise(trials),
        recommended,
        explain(recommended, trials),
        _options(setup),
    )


def _options(setup: Setup) -> tuple[str, ...]:
    """Options of a trial's run that are not in its method."""
    towards = ("--towards", setup.towards.source) if setup.towards else ()
    numbers = ("--seed", str(setup.seed), "--max-new-tokens", str(setup.max_new_tokens))
    engine = ("--engine", setup.engine.name, *setup.engine_options)
    return (*setup.text_options, *towards, *setup.check_options, *numbers, *engine)


def front(trials: Iterable[Trial]) -> list[Trial]:
    """Finds the trials that no other is at least as good as in each component, and better in
    one."""
    done = {trial.number: trial for trial in trials if trial.state == "done"}
    points = {
        number: [trial.components[key] for key in PARTS if key in trial.components]
        for number, trial in done.items()
    }
    return [done[number] for number in pareto_front(points)]


def noise(trials: Iterable[Trial]) -> dict[str, float]:
    """Computes the standard error of each component, from the variances of all trials together."""
    known = [trial.variances for trial in trials]
    errors: dict[str, float] = {}
    for key in (*PARTS, SUMMARY):
        if values := [each[key] for each in known if key in each]:
            errors[key] = sqrt(sum(values) / len(values))
    return errors


def explain(recommended: Trial, trials: Sequence[Trial]) -> str:
    """Explains in words what the recommended trial gains and loses, and whether that is chance."""
    done = [trial for trial in trials if trial.state == "done"]
    what = {"defaults": ", the method's defaults,", "plain": ", plain sampling,", "search": ""}
    count = "1 trial" if len(done) == 1 else f"{len(done)} trials"
    sentences = [
        f"Of {count}, trial {recommended.number}{what[recommended.origin]} has the highest "
        f"{mean_name(recommended)}, {recommended.summary:.2f}: "
        f"{_figures(recommended.components)}."
    ]
    if not recommended.judged:
        sentences.append(_UNJUDGED)
    rivals: dict[Origin, str] = {"defaults": "the method's defaults", "plain": "plain sampling"}
    compared = {trial.origin: trial for trial in trials if trial.origin in rivals}
    for origin, name in rivals.items():
        if origin in compared and compared[origin] != recommended:
            sentences.append(_against(recommended, compared[origin], name))
    return " ".join([*sentences, *_doubt(recommended, len(done), compared, rivals, noise(trials))])


def _against(recommended: Trial, rival: Trial, name: str) -> str:
    if rival.state != "done":
        return f"There is nothing to compare with {name}: {rival.reason or 'not finished'}."
    gains = {key: recommended.components[key] - rival.components[key] for key in rival.components}
    whole = f"{mean_name(recommended)} {gains[SUMMARY]:+.2f}"
    return f"Against {name}: {whole}: {_figures(gains, '+')}."


def mean_name(trial: Trial) -> str:
    """Name of what trials are ranked by."""
    return "summary" if trial.judged else "mean"


def _figures(components: Mapping[str, float], sign: str = "") -> str:
    known = [key for key in PARTS if key in components]
    # + 0.0: or what rounds to nothing would be shown as -0.00
    rounded = {key: round(components[key], 2) + 0.0 for key in known}
    return ", ".join(f"{_name(key)} {value:{sign}.2f}" for key, value in rounded.items())


def _name(key: str) -> str:
    return key.removesuffix("_score").replace("_", "-")


def _doubt(
    recommended: Trial,
    done: int,
    compared: Mapping[Origin, Trial],
    names: Mapping[Origin, str],
    errors: Mapping[str, float],
) -> list[str]:
    """Says which gains and losses are within the noise, if any are."""
    if SUMMARY not in errors:
        return ["How much of this is chance could not be measured: there are too few records."]
    bound = luck(done) * errors[SUMMARY]
    close = [
        names[origin]
        for origin, rival in compared.items()
        if rival.state == "done" and rival != recommended
        if recommended.summary - rival.summary < bound
    ]
    if not close:
        return []
    return [
        f"The best of {done} trials that were all alike would be ahead by up to {bound:.2f} by "
        f"chance, with {recommended.texts} records each: the gain over {' and '.join(close)} is "
        "within the noise; only more records can tell."
    ]


def luck(trials: int) -> float:
    """Computes by how many standard errors of one trial the best of so many, all alike, is ahead of
    a given one, at most once in 20 times. The best is partly the luckiest (Bonferroni's bound)."""
    return sqrt(2) * NormalDist().inv_cdf(1 - _CHANCE / max(1, trials - 1))


def command(tuning: Tuning) -> str:
    """Writes the command that generates records with the recommended settings."""
    parts = ["steer", "generate", tuning.expert, "--real", tuning.real]
    parts += ["--method", tuning.recommended.method(tuning.method).name, *tuning.options]
    if not tuning.labels:
        return shlex.join([*parts, "--n", str(_RECORDS), "--out", "run"])
    each = _RECORDS // len(tuning.labels)
    return shlex.join(
        [*parts, *(f"--label={label}={each}" for label in tuning.labels), "--out", "run"]
    )

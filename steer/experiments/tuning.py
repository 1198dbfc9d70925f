"""Tuning: trials of a method's settings, to find those that suit an expert and its texts best.

OUT/tuning.json           what is tuned, all trials, and what they come to: the state of the
                          tuning, written whole after each step
OUT/runs/trial-0000/      a run for each trial
OUT/lock                  held by the process that tunes
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.experiments.choosing import next_trial, seconds_left
from steer.experiments.measuring import Measuring, OnStage, check_judges
from steer.experiments.setup import Setup, check_size, spread
from steer.experiments.spaces import find_space
from steer.experiments.trials import MEASURES, Trial, Tuning, command, conclude
from steer.experiments.tuning_file import (
    TuneSettings,
    TuningInputs,
    locked,
    read_trials,
    write,
)
from steer.runs.generation import generate
from steer.runs.store import Run

__all__ = ["Trial", "TuneProgress", "TuneSettings", "Tuning", "command", "tune"]

_ATTEMPTS = 2  # for each record wanted: settings that write nonsense also write it at length
_SAVE_SECONDS = 10.0  # the most of a trial's time that is forgotten when the process is killed


@dataclass(frozen=True)
class TuneProgress:
    """Progress of a tuning: `trials` are finished, of `limit` if there is one; `seconds_left` of
    the budget; `best` is the highest summary so far. `stage` is what trial `number` is doing, at
    `done` of `total`."""

    trials: int
    limit: int | None
    seconds_left: float
    best: float | None
    number: int
    stage: str
    done: int
    total: int


OnProgress = Callable[[TuneProgress], None]


def tune(
    method: str,
    setup: Setup,
    real: Corpus,
    train: Corpus,
    out: Path,
    *,
    settings: TuneSettings,
    on_progress: OnProgress | None = None,
) -> Tuning:
    """Tunes `method` in the folder `out`, or continues the tuning that is there.

    A trial is a run, measured against the `real` texts, its copying against those in `train`. The
    first trials are the method's defaults and plain sampling. The budget counts what earlier calls
    spent; it and the number of trials may be raised to go on. However the process is stopped, the
    finished trials and the rounds of the one being made stay. A tuning that was stopped goes on as
    if it was not. `setup` says with what to generate; its counts and its seed are replaced by those
    of `settings`.

    Raises `SteerError` for a method without a space, for judges that are all of the expert's base
    model, when `out` is another tuning or something else, or has trials of an older steer and
    another one is to be made, when another process writes to it, when no trial gives enough
    records, and as `generate` and `evaluate` do.
    """
    check_size(settings.n, real)
    wanted = spread(settings.n, setup.expert.task.labels)
    setup = replace(setup, wanted=wanted, seed=settings.seed)
    measuring = Measuring(settings, setup.expert.task.prompt, real, train, setup.base)
    inputs = _inputs(method, setup, measuring)
    with locked(out):
        return _Tuner(inputs, setup, measuring, out, on_progress or (lambda _: None)).run()


def _inputs(method: str, setup: Setup, measuring: Measuring) -> TuningInputs:
    return TuningInputs(
        method=method,
        settings=measuring.settings,
        space=find_space(method).fingerprint(),
        prompt=measuring.prompt,
        max_new_tokens=setup.max_new_tokens,
        engine=setup.engine.name,
        model=setup.expert.base_fingerprint,
        adapter=setup.expert.adapter_fingerprint,
        data=setup.real.fingerprint,
        real=measuring.real.fingerprint,
        train=measuring.train.fingerprint,
        towards=setup.towards.fingerprint if setup.towards else None,
    )


class _Tuner:
    """Makes one trial after another; all of its state is in the file."""

    def __init__(
        self,
        inputs: TuningInputs,
        setup: Setup,
        measuring: Measuring,
        out: Path,
        report: OnProgress,
    ) -> None:
        self.inputs, self.settings, self.setup = inputs, inputs.settings, setup
        self.measuring, self.out, self.report = measuring, out, report
        most = min(setup.pool.sizes(setup.wanted).values())
        self.space = find_space(inputs.method).with_panels_of(most)
        self.trials = read_trials(out, inputs)

    def run(self) -> Tuning:
        while trial := next_trial(self.inputs, self.space, self.trials):
            self._check()
            self._try(trial)
        if tuned := conclude(self.inputs.method, self.setup, self.trials):
            return tuned
        last = self.trials[-1]
        raise SteerError(
            f"none of the {len(self.trials)} trials in {self.out} can be measured, the last one "
            f"because of {last.reason}; look at it with "
            f"{shlex.join(['steer', 'show', str(self.out / last.run)])}"
        )

    def _check(self) -> None:
        """Raises `SteerError` when one more trial could not be compared with those there are."""
        check_judges(self.settings.judges, self.setup.expert.base_fingerprint)
        if any(each.state == "done" and each.measures != MEASURES for each in self.trials):
            raise SteerError(
                f"{self.out} has trials of an older steer, whose figures cannot be compared with "
                "today's; for more trials choose another folder (--out)"
            )

    def _try(self, trial: Trial) -> None:
        before, began = trial.seconds, monotonic()
        saved = began

        def timed(trial: Trial) -> Trial:
            return replace(trial, seconds=round(before + monotonic() - began, 2))

        def on_stage(stage: str, done: int, total: int) -> None:
            nonlocal saved
            if monotonic() - saved >= _SAVE_SECONDS:
                saved = monotonic()
                self._save(timed(trial))
            self._report(timed(trial), stage, done, total)

        self._save(trial)
        try:
            run = self._generate(trial, on_stage)
            trial = self.measuring.measure(trial, run, on_stage)
        finally:
            self._save(timed(trial))

    def _generate(self, trial: Trial, on_stage: OnStage) -> Run:
        n = self.settings.n
        candidates = self.setup.checks.get("candidates", 1)
        others = self.setup.shared | {"max_attempts": _ATTEMPTS * n * candidates}
        return generate(
            trial.method(self.inputs.method).configure(others, self.setup.max_new_tokens),
            self.setup.real,
            self.setup.expert,
            self.setup.engine,
            self.out / trial.run,
            lambda made: on_stage("generating", min(made.accepted + made.finished, n), n),
            towards=self.setup.towards,
            forbid=self.setup.forbid,
        )

    def _report(self, trial: Trial, stage: str, done: int, total: int) -> None:
        finished = [each for each in self.trials if each.state != "running"]
        best = max((each.summary for each in finished if each.state == "done"), default=None)
        left = max(0.0, seconds_left(self.settings, [*finished, trial]))
        where = (trial.number, stage, done, total)
        self.report(TuneProgress(len(finished), self.settings.trials, left, best, *where))

    def _save(self, trial: Trial) -> None:
        """Takes the trial in, and writes the file."""
        self.trials = [*self.trials[: trial.number], trial]
        tuned = conclude(self.inputs.method, self.setup, self.trials)
        write(self.out, self.inputs, self.trials, tuned)

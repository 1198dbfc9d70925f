"""A search for the settings of a method that suit an expert and its texts best.

OUT/tuning.json           what is searched, all trials, and what they come to: the state of the
                          search, written whole after each step
OUT/runs/trial-0000/      a run for each trial
OUT/lock                  held by the process that searches
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import monotonic

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import evaluate
from steer.evaluation.sets import Labelled, as_labelled
from steer.evaluation.settings import MIN_TEXTS, EvaluationSettings
from steer.evaluation.summary import PARTS
from steer.experiments.comparison import Setup, spread
from steer.experiments.spaces import find_space, find_starts, propose
from steer.experiments.trials import SUMMARY, Origin, Trial, Tuning, command, conclude
from steer.experiments.tuning_file import (
    Search,
    TuneSettings,
    locked,
    parse_budget,
    read_trials,
    write,
)
from steer.runs.generation import generate
from steer.runs.store import Run
from steer.seeds import derive

__all__ = ["Trial", "TuneProgress", "TuneSettings", "Tuning", "command", "parse_budget", "tune"]

_ATTEMPTS = 2  # for each record wanted: settings that write nonsense also write it at length
FEWEST = 0.5  # of the records wanted; with fewer a trial fails
_SAVE_SECONDS = 10.0  # the most of a trial's time that is forgotten when the process is killed


@dataclass(frozen=True)
class TuneProgress:
    """`trials` are finished, of `limit` if there is one; `seconds_left` of the budget; `best` is
    the highest summary so far. `stage` is what trial `number` is doing, at `done` of `total`."""

    trials: int
    limit: int | None
    seconds_left: float
    best: float | None
    number: int
    stage: str
    done: int
    total: int


OnProgress = Callable[[TuneProgress], None]
Tick = Callable[[str, int, int], None]


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
    """Searches the space of `method` in the folder `out`, or continues the search that is there.

    A trial is a run, measured against the `real` texts, its copying against those in `train`. The
    first trials are the method's defaults and plain sampling. The budget counts what earlier calls
    spent; it and the number of trials may be raised to search on. However the process is stopped,
    the finished trials and the rounds of the one being made stay, and a search that was stopped
    goes on as if it was not. `setup` says with what to generate; its counts and its seed are
    replaced by those of `settings`.

    Raises `SteerError` for a method without a space, when `out` is another search or something
    else, when another process writes to it, when no trial gives enough records, and as `generate`
    and `evaluate` do.
    """
    wanted = spread(settings.n, setup.expert.task.labels)
    setup = replace(setup, wanted=wanted, seed=settings.seed)
    search = _search(method, setup, real, train, settings)
    with locked(out):
        return _Tuner(search, setup, real, train, out, on_progress or (lambda _: None)).run()


def _search(
    method: str, setup: Setup, real: Corpus, train: Corpus, settings: TuneSettings
) -> Search:
    return Search(
        method=method,
        settings=settings,
        space=find_space(method).fingerprint(),
        prompt=setup.expert.task.prompt,
        max_new_tokens=setup.max_new_tokens,
        engine=setup.engine.name,
        model=setup.expert.base_fingerprint,
        adapter=setup.expert.adapter_fingerprint,
        data=setup.real.fingerprint,
        real=real.fingerprint,
        train=train.fingerprint,
        towards=setup.towards.fingerprint if setup.towards else None,
    )


class _Tuner:
    """A search being made; all of its state is in the file."""

    def __init__(
        self,
        search: Search,
        setup: Setup,
        real: Corpus,
        train: Corpus,
        out: Path,
        report: OnProgress,
    ) -> None:
        self.search, self.settings, self.setup = search, search.settings, setup
        self.real, self.train, self.out, self.report = real, train, out, report
        self.space = find_space(search.method).with_panels_of(_most(setup))
        self.measuring = EvaluationSettings(
            seed=self.settings.seed,
            embedder=self.settings.embedder,
            judges=self.settings.judges,
            prompt=setup.expert.task.prompt,
            mauve_seeds=0,
            bootstrap=100,
        )
        self.parts = [key for key in PARTS if key != "coherence_score" or self.settings.judges]
        self.trials = read_trials(out, search)

    def run(self) -> Tuning:
        while trial := self._next():
            self._try(trial)
        found = self._conclude()
        if not found:
            raise SteerError(
                f"none of the {len(self.trials)} trials in {self.out} can be measured, the last "
                f"one because of {self.trials[-1].reason}; look at its rejects with steer show"
            )
        return found

    def _next(self) -> Trial | None:
        """The trial to make now, a stopped one first; None when the search is over."""
        finished = [trial for trial in self.trials if trial.state != "running"]
        stopped = next((trial for trial in self.trials if trial.state == "running"), None)
        if self.settings.trials is not None and len(finished) >= self.settings.trials:
            return None
        if finished:
            usual = median(trial.seconds for trial in finished)
            if self._left() < usual - (stopped.seconds if stopped else 0.0):
                return None
        return stopped or self._propose()

    def _propose(self) -> Trial:
        number = len(self.trials)
        starts = list(find_starts(self.search.method, self.space).items())
        if number < len(starts):
            origin: Origin = "defaults" if starts[number][0] == "defaults" else "plain"
            return Trial(number, origin, starts[number][1])
        # A failed trial counts as the worst there is, or the search would stay where trials fail.
        tried = [
            (trial.settings, [trial.components.get(part, 0.0) for part in self.parts])
            for trial in self.trials
        ]
        seed = derive(self.settings.seed, "trial", number)
        return Trial(number, "search", propose(self.space, tried, seed))

    def _try(self, trial: Trial) -> None:
        before, began = trial.seconds, monotonic()
        saved = began

        def timed(trial: Trial) -> Trial:
            return replace(trial, seconds=round(before + monotonic() - began, 2))

        def tick(stage: str, done: int, total: int) -> None:
            nonlocal saved
            if monotonic() - saved >= _SAVE_SECONDS:
                saved = monotonic()
                self._save(timed(trial))
            self._report(timed(trial), stage, done, total)

        self._save(trial)
        try:
            trial = self._measure(trial, self._generate(trial, tick), tick)
        finally:
            self._save(timed(trial))

    def _generate(self, trial: Trial, tick: Tick) -> Run:
        n = self.settings.n
        method = trial.method(self.search.method)
        return generate(
            method.configure(
                self.setup.shared | {"max_attempts": _ATTEMPTS * n}, self.setup.max_new_tokens
            ),
            self.setup.real,
            self.setup.expert,
            self.setup.engine,
            self.out / trial.run,
            lambda made: tick("generating", min(made.accepted + made.finished, n), n),
            towards=self.setup.towards,
        )

    def _measure(self, trial: Trial, run: Run, tick: Tick) -> Trial:
        """The trial with its components, or with the reason why it has none."""
        accepted, n = len(run.records), self.settings.n
        trial = replace(trial, accepted=accepted)
        if accepted < FEWEST * n:
            often = ", ".join(f"{count} {reason}" for reason, count in run.reasons.items())
            why = f"only {accepted} of {n} records were accepted (rejected: {often})"
            return replace(trial, state="failed", reason=why)
        texts = as_labelled(run)
        [found], used = self._evaluate([texts], tick)
        if missing := [key for key in self.parts if found[key].value is None]:
            why = f"{missing[0]} has no value: {found[missing[0]].reason}"
            return replace(trial, state="failed", reason=why)
        return replace(
            trial,
            state="done",
            texts=used,
            components=_values(found),
            variances=self._variances(texts, used, tick),
        )

    def _evaluate(
        self, sets: Sequence[Labelled], tick: Tick
    ) -> tuple[list[dict[str, Estimate]], int]:
        """Components and summary of each set, and how many texts they were measured on."""
        result = evaluate(
            {str(number): texts for number, texts in enumerate(sets)},
            self.real,
            train=self.train,
            settings=self.measuring,
            on_progress=lambda made: tick(made.stage, made.done, made.total),
        )
        rows = {row.name: row.estimates for row in result.rows}
        keys = (*self.parts, SUMMARY)
        found = [{key: rows[str(number)][key] for key in keys} for number in range(len(sets))]
        return found, result.n

    def _variances(self, texts: Labelled, used: int, tick: Tick) -> dict[str, float]:
        """Of a value on `used` texts, by its values on two halves of m texts: half the square of
        their difference estimates the variance at m, and that is proportional to 1 / m."""
        total = len(texts.texts)
        if total < 2 * MIN_TEXTS:
            return {}
        halves, m = self._evaluate([texts.pick(range(first, total, 2)) for first in (0, 1)], tick)
        a, b = (_values(half) for half in halves)
        return {key: (a[key] - b[key]) ** 2 / 2 * m / used for key in a.keys() & b.keys()}

    def _left(self) -> float:
        return self.settings.budget - sum(trial.seconds for trial in self.trials)

    def _report(self, trial: Trial, stage: str, done: int, total: int) -> None:
        finished = [each for each in self.trials if each.state != "running"]
        spent = sum(each.seconds for each in finished) + trial.seconds
        best = max((each.summary for each in finished if each.state == "done"), default=None)
        left = max(0.0, self.settings.budget - spent)
        self.report(
            TuneProgress(
                len(finished), self.settings.trials, left, best, trial.number, stage, done, total
            )
        )

    def _conclude(self) -> Tuning | None:
        return conclude(
            self.search.method,
            self.setup.expert_path,
            self.setup.real.source,
            self.setup.expert.task.labels,
            self.trials,
        )

    def _save(self, trial: Trial) -> None:
        """Takes the trial in, and writes the file."""
        self.trials = [*self.trials[: trial.number], trial]
        write(self.out, self.search, self.trials, self._conclude())


def _most(setup: Setup) -> int:
    """The most examples that a panel can hold."""
    labels, texts = setup.real.labels, setup.real.texts
    if labels is None or None in setup.wanted:
        return len(texts)
    counts = Counter(labels)
    return min(counts[label] for label in setup.wanted if label is not None)


def _values(found: dict[str, Estimate]) -> dict[str, float]:
    return {key: each.value for key, each in found.items() if each.value is not None}

"""Measuring a trial: its records against real texts, whole and in halves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from steer.data.corpus import Corpus
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import evaluate
from steer.evaluation.sets import Labelled, as_labelled
from steer.evaluation.settings import MIN_TEXTS, EvaluationSettings
from steer.experiments.trials import SUMMARY, Trial
from steer.experiments.tuning_file import TuneSettings
from steer.runs.store import Run

FEWEST = 0.5  # share of the records wanted; with fewer a trial fails

OnStage = Callable[[str, int, int], None]
"""Called with the stage, and how much of how much is done in it."""


@dataclass(frozen=True)
class Measuring:
    """Texts that trials are measured against, and settings: copying against those in `train`, all
    else against the `real` ones; `prompt` is what a judge reads first."""

    settings: TuneSettings
    prompt: str
    real: Corpus
    train: Corpus

    def measure(self, trial: Trial, run: Run, on_stage: OnStage) -> Trial:
        """Measures a trial: gives it its components, or the reason why it has none."""
        accepted, n = len(run.records), self.settings.n
        trial = replace(trial, accepted=accepted)
        if accepted < FEWEST * n:
            rejected = run.reasons_in_words
            why = f"only {accepted} of {n} records were accepted (rejected: {rejected})"
            return replace(trial, state="failed", reason=why)
        texts = as_labelled(run)
        [estimates], used = self._evaluate([texts], on_stage)
        if missing := [key for key in self.settings.parts if estimates[key].value is None]:
            why = f"{missing[0]} has no value: {estimates[missing[0]].reason}"
            return replace(trial, state="failed", reason=why)
        variances = self._variances(texts, used, on_stage)
        components = _values(estimates)
        return replace(trial, state="done", texts=used, components=components, variances=variances)

    def _evaluate(
        self, sets: Sequence[Labelled], on_stage: OnStage
    ) -> tuple[list[dict[str, Estimate]], int]:
        """Computes components and summary of each set, and how many texts they were measured on."""
        result = evaluate(
            {str(number): texts for number, texts in enumerate(sets)},
            self.real,
            train=self.train,
            settings=self._evaluation,
            on_progress=lambda made: on_stage(made.stage, made.done, made.total),
        )
        rows = {row.name: row.estimates for row in result.rows}
        keys = (*self.settings.parts, SUMMARY)
        return [{key: rows[str(i)][key] for key in keys} for i in range(len(sets))], result.n

    @property
    def _evaluation(self) -> EvaluationSettings:
        return EvaluationSettings(
            seed=self.settings.seed,
            embedder=self.settings.embedder,
            judges=self.settings.judges,
            prompt=self.prompt,
            mauve_seeds=0,
            bootstrap=100,
        )

    def _variances(self, texts: Labelled, used: int, on_stage: OnStage) -> dict[str, float]:
        """Estimates the variance of each value on `used` texts, by its values on two halves of m
        texts: half the square of their difference estimates the variance at m, and that is
        proportional to 1 / m."""
        total = len(texts.texts)
        if total < 2 * MIN_TEXTS:
            return {}
        halves = [texts.pick(range(first, total, 2)) for first in (0, 1)]
        estimates, m = self._evaluate(halves, on_stage)
        a, b = (_values(half) for half in estimates)
        return {key: (a[key] - b[key]) ** 2 / 2 * m / used for key in a.keys() & b.keys()}


def _values(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {key: each.value for key, each in estimates.items() if each.value is not None}

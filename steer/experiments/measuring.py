"""Measuring a trial: its records against real texts, each figure with its variance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import evaluate
from steer.evaluation.sets import Labelled, as_labelled
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.summary import harmonic_mean
from steer.experiments.trials import MEASURES, SUMMARY, Trial
from steer.experiments.tuning_file import TuneSettings
from steer.models.judge import base_fingerprint
from steer.runs.store import Run

FEWEST = 0.5  # share of the records wanted; with fewer a trial fails
_WIDTH = 3.92  # standard errors in a 95% interval of a normal distribution

OnStage = Callable[[str, int, int], None]
"""Called with the stage, and how much of how much is done in it."""


@dataclass(frozen=True)
class Measuring:
    """Texts that trials are measured against, and settings: copying against those in `train`, all
    else against the `real` ones; `prompt` is what a judge reads first, `base` the base model that
    writes."""

    settings: TuneSettings
    prompt: str
    real: Corpus
    train: Corpus
    base: str | None = None

    def measure(self, trial: Trial, run: Run, on_stage: OnStage) -> Trial:
        """Measures a trial: gives it its components, or the reason why it has none."""
        accepted, n = len(run.records), self.settings.n
        trial = replace(trial, accepted=accepted)
        if accepted < FEWEST * n:
            rejected = run.reasons_in_words
            why = f"only {accepted} of {n} records were accepted (rejected: {rejected})"
            return replace(trial, state="failed", reason=why)
        estimates, used = self._evaluate(as_labelled(run), on_stage)
        if missing := [key for key in self.settings.parts if estimates[key].value is None]:
            why = f"{missing[0]} has no value: {estimates[missing[0]].reason}"
            return replace(trial, state="failed", reason=why)
        components = {key: each.value for key, each in estimates.items() if each.value is not None}
        found = {key: variance(each) for key, each in estimates.items()}
        known = {key: value for key, value in found.items() if value is not None}
        if SUMMARY not in components:  # as coherence is not measured
            whole = harmonic_mean(list(components.values())) or 0.0
            known |= _mean_variance(whole, components, known)
            components[SUMMARY] = whole
        return replace(
            trial,
            state="done",
            texts=used,
            components=components,
            variances=known,
            measures=MEASURES,
        )

    def _evaluate(self, texts: Labelled, on_stage: OnStage) -> tuple[dict[str, Estimate], int]:
        """Estimates the components and the summary, and counts the texts they were measured on."""
        result = evaluate(
            {"trial": texts},
            self.real,
            train=self.train,
            settings=self._evaluation,
            on_progress=lambda made: on_stage(made.stage, made.done, made.total),
        )
        found = next(row.estimates for row in result.rows if row.name == "trial")
        return {key: found[key] for key in (*self.settings.parts, SUMMARY)}, result.n

    @property
    def _evaluation(self) -> EvaluationSettings:
        return EvaluationSettings(
            seed=self.settings.seed,
            embedder=self.settings.embedder,
            judges=self.settings.judges,
            prompt=self.prompt,
            base=self.base,
            mauve_seeds=0,
        )


def check_judges(judges: Sequence[str], writer: str) -> None:
    """Raises `SteerError` when there are judges and all are of the base model with the fingerprint
    `writer`: coherence would have no value, which is better known before the first trial."""
    if judges and all(base_fingerprint(judge) == writer for judge in judges):
        raise SteerError(
            f"--judge {', '.join(judges)} is of the base model that writes the records, which it "
            "finds likely by construction; name a model of another family, such as gemma3-270m, or "
            "tune without --judge and without coherence"
        )


def variance(estimate: Estimate) -> float | None:
    """Variance of an estimate, from its 95% interval; None where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return ((estimate.high - estimate.low) / _WIDTH) ** 2


def _mean_variance(
    whole: float, parts: Mapping[str, float], variances: Mapping[str, float]
) -> dict[str, float]:
    """Computes, under "summary", the variance of the harmonic mean h = `whole` of the k `parts` x,
    to first order: a part counts by the square of its slope, h^2 / (k x^2). The parts are taken for
    independent, though the same texts are in all of them. Nothing where it is not known."""
    if whole <= 0 or not parts.keys() <= variances.keys():
        return {}
    slopes = {key: whole**2 / (len(parts) * value**2) for key, value in parts.items()}
    return {SUMMARY: sum(slopes[key] ** 2 * variances[key] for key in parts)}

"""All metrics of one set of texts, in the groups of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

import numpy as np
from pydantic import Field

from steer.config import Config
from steer.data.neardup import normalise
from steer.data.questions import LETTERS, Question, parse_question
from steer.evaluation import coherence, copying, diversity, fidelity, manifold, utility
from steer.evaluation.copying import Known
from steer.evaluation.estimate import Estimate, mean_with_interval, mean_with_sd, resample_counts
from steer.evaluation.sets import Labelled
from steer.evaluation.summary import GAPS
from steer.evaluation.words import first_words, lengths
from steer.seeds import derive

GROUPS = 6
MIN_TEXTS = 10
MAUVE_MISSING = "MAUVE was skipped: pip install 'steer-text[mauve]' (its licence is GPLv3)"
NO_JUDGE = "no judge: name one"
NO_SECOND = "no second judge"
NO_UTILITY = "not asked for: set utility"
BLEU_TEXTS = 500

Vectors = Callable[[Sequence[str]], np.ndarray]


class EvaluationSettings(Config):
    """How to evaluate. `n` caps the texts of every row; `embedder` is a sentence-transformers
    name or folder (None: all-MiniLM-L6-v2); `mauve_seeds` 0 leaves MAUVE out.

    `judges` are experts' folders or causal models (`steer.models.judge`), `prompt` what a judge
    that is no expert reads before a text; they read `judged` texts of a row, drawn at random (None:
    all), for reading takes longest. `utility` trains classifiers: on "labels", or on the "answers"
    of multiple-choice questions. `cache` keeps embeddings and likelihoods on disk.
    """

    n: int | None = Field(default=None, ge=MIN_TEXTS)
    seed: int = Field(default=0, ge=0)
    embedder: str | None = None
    mauve_seeds: int = Field(default=5, ge=0)
    folds: int = Field(default=5, ge=2)
    near_copy: float = Field(default=0.8, gt=0, le=1)
    bootstrap: int = Field(default=1000, ge=100)
    judges: tuple[str, ...] = Field(default=(), max_length=len(GAPS))
    prompt: str | None = None
    judged: int | None = Field(default=None, ge=MIN_TEXTS)
    utility: Literal["labels", "answers"] | None = None
    cache: bool = True


@dataclass(frozen=True)
class Bench:
    """What all rows of a table are measured with.

    `reference` is what rows are compared with, `held_out` the real texts beside it. `vectors`
    gives the unit rows (texts, d) of any texts in the evaluation, and each of `likelihoods` a
    judge's scores (texts,) of a set; `counts` (draws, n) are the bootstrap samples; `equal_words`
    is the budget of the size-matched 3-grams.
    """

    settings: EvaluationSettings
    reference: Labelled
    held_out: Labelled
    vectors: Vectors
    likelihoods: Sequence[Callable[[Labelled], np.ndarray]]
    counts: np.ndarray
    equal_words: int


def measure(bench: Bench, row: Labelled, known: Known) -> Iterator[dict[str, Estimate]]:
    """The `GROUPS` groups of `COLUMNS` up to the summary, each measured when it is asked for."""
    rows = bench.vectors(row.texts)
    yield _length(row.texts)
    yield _diversity(bench, row.texts, rows)
    yield _fidelity(bench, row.texts, rows)
    yield _coherence(bench, row)
    yield _copying(bench, row.texts, rows, known)
    yield _utility(bench, row)


def _length(texts: Sequence[str]) -> dict[str, Estimate]:
    words = lengths(texts)
    percentiles = {f"words_p{p}": Estimate(float(np.percentile(words, p))) for p in (10, 50, 90)}
    return {"words_mean": Estimate(float(words.mean()))} | percentiles


def _diversity(bench: Bench, texts: Sequence[str], rows: np.ndarray) -> dict[str, Estimate]:
    equal = first_words(texts, bench.equal_words)
    return {
        "distinct": _or_short(diversity.distinct_product(texts), 4),
        "three_grams": _or_short(diversity.distinct(texts, 3), 3),
        "three_grams_equal_words": _or_short(diversity.distinct(equal, 3), 3),
        "repetition": mean_with_interval(diversity.repetitions(texts), bench.counts),
        "compression": Estimate(diversity.compression_ratio(texts)),
        "cosine_self": fidelity.self_cosine(rows, bench.counts),
        "self_bleu": _self_bleu(bench, texts),
        # Resampling repeats texts, which lowers this score: no bootstrap interval.
        "vendi_1": Estimate(diversity.vendi_score(rows, 1)),
        "vendi_2": Estimate(diversity.vendi_score(rows, 2)),
    }


def _or_short(value: float, words: int) -> Estimate:
    return Estimate(None, reason=f"no text has {words} words") if isnan(value) else Estimate(value)


def _self_bleu(bench: Bench, texts: Sequence[str]) -> Estimate:
    # Rows are drawn at random: the first texts are a sample.
    scores = diversity.self_bleus(texts[:BLEU_TEXTS])
    seed = derive(bench.settings.seed, "bootstrap")
    counts = resample_counts(len(scores), bench.settings.bootstrap, seed)
    return mean_with_interval(scores, counts)


def _fidelity(bench: Bench, texts: Sequence[str], rows: np.ndarray) -> dict[str, Estimate]:
    reference = bench.vectors(bench.reference.texts)
    return {
        "cosine_real": mean_with_interval(fidelity.mean_cosines(rows, reference), bench.counts),
        "mauve": _mauve(rows, reference, bench.settings.mauve_seeds),
        "auroc_trees": _auroc(bench, texts, rows, "trees"),
        "auroc_logistic": _auroc(bench, texts, rows, "logistic"),
        **_cover(bench, rows, reference),
    }


def _mauve(rows: np.ndarray, reference: np.ndarray, seeds: int) -> Estimate:
    if seeds and not fidelity.mauve_installed():
        return Estimate(None, reason=MAUVE_MISSING)
    scores = [fidelity.mauve_score(rows, reference, seed) for seed in range(seeds)]
    return mean_with_sd(scores, "left out by mauve_seeds 0")


def _auroc(
    bench: Bench, texts: Sequence[str], rows: np.ndarray, adversary: fidelity.Adversary
) -> Estimate:
    scores = fidelity.adversarial_aurocs(
        rows,
        bench.vectors(bench.reference.texts),
        [normalise(text) for text in (*texts, *bench.reference.texts)],
        adversary,
        bench.settings.folds,
        derive(bench.settings.seed, "folds"),
    )
    estimate = mean_with_sd(scores, "too few distinct texts to hold some out")
    if 0 < len(scores) < bench.settings.folds:
        missing = f"{len(scores)} of {bench.settings.folds} folds: texts repeat too much for more"
        return replace(estimate, reason=missing)
    return estimate


def _cover(bench: Bench, rows: np.ndarray, reference: np.ndarray) -> dict[str, Estimate]:
    found = manifold.cover(rows, reference)
    values = {key: getattr(found, key) for key in ("precision", "recall", "density", "coverage")}
    curves = {
        "alpha_precision": manifold.alpha_precision(rows, reference),
        "beta_recall": manifold.beta_recall(rows, reference),
    }
    covers = {key: mean_with_interval(each, bench.counts) for key, each in values.items()}
    return covers | {key: manifold.score(each, bench.counts) for key, each in curves.items()}


def _coherence(bench: Bench, row: Labelled) -> dict[str, Estimate]:
    mine, real = (judged(bench.settings, each) for each in (row, bench.reference))
    n, seed = len(real.texts), derive(bench.settings.seed, "bootstrap")
    counts = resample_counts(n, bench.settings.bootstrap, seed)
    gaps = [coherence.gap(judge(mine), judge(real), counts) for judge in bench.likelihoods]
    missing = [Estimate(None, reason=reason) for reason in (NO_JUDGE, NO_SECOND)]
    return dict(zip(GAPS, [*gaps, *missing[len(gaps) :]], strict=True))


def judged(settings: EvaluationSettings, row: Labelled) -> Labelled:
    """Those texts of a row that the judges read: rows are drawn at random, so the first ones."""
    return row.pick(range(min(len(row.texts), settings.judged or len(row.texts))))


def _copying(
    bench: Bench, texts: Sequence[str], rows: np.ndarray, known: Known
) -> dict[str, Estimate]:
    values = {
        "exact_copies": copying.exact_copies(texts, known),
        "near_copies": copying.near_copies(texts, known),
        "longest_run": copying.longest_runs(texts, known.texts),
        "nearest_cosine": copying.nearest_cosines(rows, known.rows),
    }
    if len(known.distinct) > 1:
        values["authenticity"] = copying.authentic(rows, known)
    found = {key: mean_with_interval(each, bench.counts) for key, each in values.items()}
    one_text = Estimate(None, reason="the training texts are one text repeated")
    return {"authenticity": one_text} | found if len(found) < 5 else found


def _utility(bench: Bench, row: Labelled) -> dict[str, Estimate]:
    if bench.settings.utility is None:
        return dict.fromkeys(("utility", "utility_added"), Estimate(None, reason=NO_UTILITY))
    examples = _labels if bench.settings.utility == "labels" else _answers
    mine, real, test = (examples(bench, s) for s in (row, bench.held_out, bench.reference))
    reason = _short(mine, len(row.texts))
    # Nothing can be added to the real texts but themselves, and no utility comes from nothing.
    added = mine if row is bench.held_out or not len(mine) else real + mine
    return {
        "utility": _trained(bench, mine, test, reason),
        "utility_added": _trained(bench, added, test, reason),
    }


def _trained(
    bench: Bench, train: utility.Examples, test: utility.Examples, reason: str | None
) -> Estimate:
    labels = bench.settings.utility == "labels"
    scores = utility.label_scores if labels else utility.answer_scores
    seed = derive(bench.settings.seed, "utility")
    found = scores(train, test, seed) if len(train) and len(test) else []
    estimate = mean_with_sd(found, "the texts have only one label")
    return replace(estimate, reason=reason or estimate.reason)


def _labels(bench: Bench, given: Labelled) -> utility.Examples:
    return utility.Examples(bench.vectors(given.texts), np.array(given.labels))


def _answers(bench: Bench, given: Labelled) -> utility.Examples:
    return utility.question_examples(questions(given.texts), bench.vectors)


def _short(examples: utility.Examples, n: int) -> str | None:
    if len(examples) == n:
        return None
    return f"{len(examples)} of {n} texts are questions with options {LETTERS[0]} to {LETTERS[-1]}"


def questions(texts: Sequence[str]) -> list[Question]:
    """Those of `texts` that are well-formed multiple-choice questions."""
    return [found for text in texts if (found := parse_question(text))]

"""All metrics of one set of texts, in the groups of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np

from steer.data.questions import LETTERS, Question, parse_question
from steer.data.words import first_words, fold, lengths
from steer.evaluation import coherence, copying, diversity, fidelity, manifold, utility
from steer.evaluation.copying import Known
from steer.evaluation.estimate import Estimate, mean_with_interval, mean_with_sd, resample_counts
from steer.evaluation.sets import Labelled
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.summary import GAPS
from steer.seeds import derive

GROUPS = 6
MAUVE_MISSING = "MAUVE was skipped: pip install 'steer-text[mauve]' (its licence is GPLv3)"
NO_JUDGE = "no judge: name one"
NO_SECOND = "no second judge"
NO_UTILITY = "not asked for: set utility"
BLEU_TEXTS = 500

Vectors = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Instruments:
    """Texts and models that all rows of a table are measured with.

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


def measure(tools: Instruments, row: Labelled, known: Known) -> Iterator[dict[str, Estimate]]:
    """Yields the `GROUPS` groups of `COLUMNS` up to the summary, each measured when it is asked
    for."""
    rows = tools.vectors(row.texts)
    yield _length(row.texts)
    yield _diversity(tools, row.texts, rows)
    yield _fidelity(tools, row.texts, rows)
    yield _coherence(tools, row)
    yield _copying(tools, row.texts, rows, known)
    yield _utility(tools, row)


def _length(texts: Sequence[str]) -> dict[str, Estimate]:
    words = lengths(texts)
    percentiles = {f"words_p{p}": Estimate(float(np.percentile(words, p))) for p in (10, 50, 90)}
    return {"words_mean": Estimate(float(words.mean()))} | percentiles


def _diversity(tools: Instruments, texts: Sequence[str], rows: np.ndarray) -> dict[str, Estimate]:
    equal = first_words(texts, tools.equal_words)
    return {
        "distinct": _or_short(diversity.distinct_product(texts), 4),
        "three_grams": _or_short(diversity.distinct(texts, 3), 3),
        "three_grams_equal_words": _or_short(diversity.distinct(equal, 3), 3),
        "repetition": mean_with_interval(diversity.repetitions(texts), tools.counts),
        "compression": Estimate(diversity.compression_ratio(texts)),
        "cosine_self": fidelity.self_cosine(rows, tools.counts),
        "self_bleu": _self_bleu(tools, texts),
        # Resampling repeats texts, which lowers this score: no bootstrap interval.
        "vendi_1": Estimate(diversity.vendi_score(rows, 1)),
        "vendi_2": Estimate(diversity.vendi_score(rows, 2)),
    }


def _or_short(value: float, words: int) -> Estimate:
    return Estimate(None, reason=f"no text has {words} words") if isnan(value) else Estimate(value)


def _self_bleu(tools: Instruments, texts: Sequence[str]) -> Estimate:
    # Rows are drawn at random: the first texts are a sample.
    scores = diversity.self_bleus(texts[:BLEU_TEXTS])
    seed = derive(tools.settings.seed, "bootstrap")
    counts = resample_counts(len(scores), tools.settings.bootstrap, seed)
    return mean_with_interval(scores, counts)


def _fidelity(tools: Instruments, texts: Sequence[str], rows: np.ndarray) -> dict[str, Estimate]:
    reference = tools.vectors(tools.reference.texts)
    return {
        "cosine_real": mean_with_interval(fidelity.mean_cosines(rows, reference), tools.counts),
        "mauve": _mauve(rows, reference, tools.settings.mauve_seeds),
        "auroc_trees": _auroc(tools, texts, rows, "trees"),
        "auroc_logistic": _auroc(tools, texts, rows, "logistic"),
        **_cover(tools, rows, reference),
    }


def _mauve(rows: np.ndarray, reference: np.ndarray, seeds: int) -> Estimate:
    if seeds and not fidelity.mauve_installed():
        return Estimate(None, reason=MAUVE_MISSING)
    scores = [fidelity.mauve_score(rows, reference, seed) for seed in range(seeds)]
    return mean_with_sd(scores, "left out by mauve_seeds 0")


def _auroc(
    tools: Instruments, texts: Sequence[str], rows: np.ndarray, adversary: fidelity.Adversary
) -> Estimate:
    scores = fidelity.adversarial_aurocs(
        rows,
        tools.vectors(tools.reference.texts),
        [fold(text) for text in (*texts, *tools.reference.texts)],
        adversary,
        tools.settings.folds,
        derive(tools.settings.seed, "folds"),
    )
    estimate = mean_with_sd(scores, "too few distinct texts to hold some out")
    if 0 < len(scores) < tools.settings.folds:
        missing = f"{len(scores)} of {tools.settings.folds} folds: texts repeat too much for more"
        return replace(estimate, reason=missing)
    return estimate


def _cover(tools: Instruments, rows: np.ndarray, reference: np.ndarray) -> dict[str, Estimate]:
    covered = manifold.cover(rows, reference)
    values = {key: getattr(covered, key) for key in ("precision", "recall", "density", "coverage")}
    curves = {
        "alpha_precision": manifold.alpha_precision(rows, reference),
        "beta_recall": manifold.beta_recall(rows, reference),
    }
    covers = {key: mean_with_interval(each, tools.counts) for key, each in values.items()}
    return covers | {key: manifold.score(each, tools.counts) for key, each in curves.items()}


def _coherence(tools: Instruments, row: Labelled) -> dict[str, Estimate]:
    mine, real = (judged(tools.settings, each) for each in (row, tools.reference))
    n, seed = len(real.texts), derive(tools.settings.seed, "bootstrap")
    counts = resample_counts(n, tools.settings.bootstrap, seed)
    gaps = [coherence.gap(judge(mine), judge(real), counts) for judge in tools.likelihoods]
    missing = [Estimate(None, reason=reason) for reason in (NO_JUDGE, NO_SECOND)]
    return dict(zip(GAPS, [*gaps, *missing[len(gaps) :]], strict=True))


def judged(settings: EvaluationSettings, row: Labelled) -> Labelled:
    """Texts of a row that the judges read: the first ones, as rows are drawn at random."""
    return row.pick(range(min(len(row.texts), settings.judged or len(row.texts))))


def _copying(
    tools: Instruments, texts: Sequence[str], rows: np.ndarray, known: Known
) -> dict[str, Estimate]:
    values = {
        "exact_copies": copying.exact_copies(texts, known),
        "near_copies": copying.near_copies(texts, known),
        "longest_run": copying.longest_runs(texts, known.texts),
        "nearest_cosine": copying.nearest_cosines(rows, known.rows),
    }
    if len(known.distinct) > 1:
        values["authenticity"] = copying.authentic(rows, known)
    estimates = {key: mean_with_interval(each, tools.counts) for key, each in values.items()}
    one_text = Estimate(None, reason="the training texts are one text repeated")
    return {"authenticity": one_text} | estimates if len(estimates) < 5 else estimates


def _utility(tools: Instruments, row: Labelled) -> dict[str, Estimate]:
    if tools.settings.utility is None:
        return dict.fromkeys(("utility", "utility_added"), Estimate(None, reason=NO_UTILITY))
    examples = _labels if tools.settings.utility == "labels" else _answers
    mine, real, test = (examples(tools, s) for s in (row, tools.held_out, tools.reference))
    reason = _short(mine, len(row.texts))
    # Nothing can be added to the real texts but themselves, and no utility comes from nothing.
    added = mine if row is tools.held_out or not len(mine) else real + mine
    return {
        "utility": _trained(tools, mine, test, reason),
        "utility_added": _trained(tools, added, test, reason),
    }


def _trained(
    tools: Instruments, train: utility.Examples, test: utility.Examples, reason: str | None
) -> Estimate:
    labels = tools.settings.utility == "labels"
    scores = utility.label_scores if labels else utility.answer_scores
    seed = derive(tools.settings.seed, "utility")
    accuracies = scores(train, test, seed) if len(train) and len(test) else []
    estimate = mean_with_sd(accuracies, "the texts have only one label")
    return replace(estimate, reason=reason or estimate.reason)


def _labels(tools: Instruments, given: Labelled) -> utility.Examples:
    return utility.Examples(tools.vectors(given.texts), np.array(given.labels))


def _answers(tools: Instruments, given: Labelled) -> utility.Examples:
    return utility.question_examples(questions(given.texts), tools.vectors)


def _short(examples: utility.Examples, n: int) -> str | None:
    if len(examples) == n:
        return None
    return f"{len(examples)} of {n} texts are questions with options {LETTERS[0]} to {LETTERS[-1]}"


def questions(texts: Sequence[str]) -> list[Question]:
    """Parses `texts`, and keeps the well-formed multiple-choice questions."""
    return [question for text in texts if (question := parse_question(text))]

"""All metrics of one set of texts, in the groups of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from pydantic import Field

from steer.config import Config
from steer.metrics import copying, diversity, fidelity
from steer.metrics.estimate import Estimate, mean_with_interval, mean_with_sd
from steer.metrics.words import first_words, lengths
from steer.neardup import normalise
from steer.seeds import derive

MIN_TEXTS = 10
MAUVE_MISSING = "MAUVE was skipped: pip install 'steer-text[mauve]' (its licence is GPLv3)"


class EvaluationSettings(Config):
    """How to evaluate. `n` caps the texts of every row; `embedder` is a sentence-transformers
    name or folder (None: all-MiniLM-L6-v2); `mauve_seeds` 0 leaves MAUVE out."""

    n: int | None = Field(default=None, ge=MIN_TEXTS)
    seed: int = Field(default=0, ge=0)
    embedder: str | None = None
    mauve_seeds: int = Field(default=5, ge=0)
    folds: int = Field(default=5, ge=2)
    near_copy: float = Field(default=0.8, gt=0, le=1)
    bootstrap: int = Field(default=1000, ge=100)


@dataclass(frozen=True)
class Bench:
    """What all rows of a table are measured with.

    `vectors` gives the unit rows (texts, d) of any texts in the evaluation; `counts` (draws, n)
    are the bootstrap samples; `equal_words` is the budget of the size-matched 3-grams; `cut`
    counts the texts longer than the embedder reads.
    """

    settings: EvaluationSettings
    reference: list[str]
    vectors: Callable[[Sequence[str]], np.ndarray]
    counts: np.ndarray
    equal_words: int
    embedder: str
    cut: int


def measure(bench: Bench, texts: list[str], train: list[str]) -> Iterator[dict[str, Estimate]]:
    """The four groups of `COLUMNS`, each measured when it is asked for."""
    rows = bench.vectors(texts)
    yield _length(texts)
    yield _diversity(bench, texts, rows)
    yield _fidelity(bench, texts, rows)
    yield _copying(bench, texts, rows, train)


def _length(texts: list[str]) -> dict[str, Estimate]:
    words = lengths(texts)
    percentiles = {f"words_p{p}": Estimate(float(np.percentile(words, p))) for p in (10, 50, 90)}
    return {"words_mean": Estimate(float(words.mean()))} | percentiles


def _diversity(bench: Bench, texts: list[str], rows: np.ndarray) -> dict[str, Estimate]:
    equal = first_words(texts, bench.equal_words)
    return {
        "distinct": _or_short(diversity.distinct_product(texts), 4),
        "three_grams": _or_short(diversity.distinct(texts, 3), 3),
        "three_grams_equal_words": _or_short(diversity.distinct(equal, 3), 3),
        "repetition": mean_with_interval(diversity.repetitions(texts), bench.counts),
        "compression": Estimate(diversity.compression_ratio(texts)),
        "cosine_self": fidelity.self_cosine(rows, bench.counts),
    }


def _or_short(value: float, words: int) -> Estimate:
    return Estimate(None, reason=f"no text has {words} words") if isnan(value) else Estimate(value)


def _fidelity(bench: Bench, texts: list[str], rows: np.ndarray) -> dict[str, Estimate]:
    reference = bench.vectors(bench.reference)
    return {
        "cosine_real": mean_with_interval(fidelity.mean_cosines(rows, reference), bench.counts),
        "mauve": _mauve(rows, reference, bench.settings.mauve_seeds),
        "auroc_trees": _auroc(bench, texts, rows, "trees"),
        "auroc_logistic": _auroc(bench, texts, rows, "logistic"),
    }


def _mauve(rows: np.ndarray, reference: np.ndarray, seeds: int) -> Estimate:
    if seeds and not fidelity.mauve_installed():
        return Estimate(None, reason=MAUVE_MISSING)
    scores = [fidelity.mauve_score(rows, reference, seed) for seed in range(seeds)]
    return mean_with_sd(scores, "left out by mauve_seeds 0")


def _auroc(
    bench: Bench, texts: list[str], rows: np.ndarray, adversary: fidelity.Adversary
) -> Estimate:
    scores = fidelity.adversarial_aurocs(
        rows,
        bench.vectors(bench.reference),
        [normalise(text) for text in (*texts, *bench.reference)],
        adversary,
        bench.settings.folds,
        derive(bench.settings.seed, "folds"),
    )
    estimate = mean_with_sd(scores, "too few distinct texts to hold some out")
    if 0 < len(scores) < bench.settings.folds:
        missing = f"{len(scores)} of {bench.settings.folds} folds: texts repeat too much for more"
        return replace(estimate, reason=missing)
    return estimate


def _copying(
    bench: Bench, texts: list[str], rows: np.ndarray, train: list[str]
) -> dict[str, Estimate]:
    near = copying.near_copies(texts, train, bench.settings.near_copy)
    values = {
        "exact_copies": copying.exact_copies(texts, train),
        "near_copies": near,
        "longest_run": copying.longest_runs(texts, train),
        "nearest_cosine": copying.nearest_cosines(rows, bench.vectors(train)),
    }
    return {key: mean_with_interval(each, bench.counts) for key, each in values.items()}

"""All metrics of one set of texts, in the groups of the table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isnan, log

import numpy as np

from steer.data.questions import LETTERS, Question, parse_question
from steer.data.words import first_words, lengths
from steer.evaluation import (
    coherence,
    copying,
    detectors,
    diversity,
    fidelity,
    manifold,
    summary,
    utility,
)
from steer.evaluation.copying import Known
from steer.evaluation.estimate import (
    Draws,
    Estimate,
    Sampled,
    combine,
    draws,
    jackknife,
    mean_with_interval,
    mean_with_sd,
    resample_counts,
    shares_below,
)
from steer.evaluation.sets import Labelled
from steer.evaluation.settings import EvaluationSettings
from steer.models.readings import Readings
from steer.seeds import derive

GROUPS = 6
MAUVE_MISSING = "MAUVE was skipped: pip install 'steer-text[mauve]' (its licence is GPLv3)"
NO_JUDGE = "no outside judge: name one"
NO_SECOND = "no second judge"
ALIKE = "the judge finds all real texts equally likely"
NO_UTILITY = "not asked for: set utility"
NO_READINGS = "no outside judge that reads every text"
NO_NETWORK = "for labels only"
ONE_LABEL = "the texts have only one label"
TOO_FEW = "too few different texts to hold some out"
BLEU_TEXTS = 500

Vectors = Callable[[Sequence[str]], np.ndarray]
Read = Callable[[Labelled], Readings]


@dataclass(frozen=True)
class Instruments:
    """Texts and models that all rows of a table are measured with.

    `reference` is what rows are compared with, `held_out` the real texts beside it. `vectors`
    gives the unit rows (texts, d) of any texts in the evaluation. `judge` reads a set, and `second`
    is a judge shown apart; None where there is none. `close` is how close the reference texts are
    to the training texts (`copying.closeness`), and `equal_words` the budget of the size-matched
    3-grams.
    """

    settings: EvaluationSettings
    reference: Labelled
    held_out: Labelled
    vectors: Vectors
    judge: Read | None
    second: Read | None
    equal_words: int

    @cached_property
    def judged_floor(self) -> float:
        """Distance of likelihoods that real texts have by chance."""
        assert self.judge is not None
        scores = self.judge(judged(self.settings, self.reference)).mean
        return coherence.floor(scores, derive(self.settings.seed, "halves"))

    def draws(self, row: str, n: int) -> Draws:
        """Bootstrap samples for the row of that name, of `n` texts."""
        return draws(n, self.settings.bootstrap, self.settings.seed, row)


@dataclass(frozen=True)
class Measured:
    """Figures of one row: the `estimates` of the table, the `parts` of the summary with the samples
    that differences are made from, and why one is missing."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    parts: dict[str, Sampled] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def take(self, part: str, found: Sampled | None, reason: str) -> None:
        """Takes in a part, or why there is none."""
        if found is None:
            self.reasons[part] = reason
        else:
            self.parts[part] = found


@dataclass(frozen=True)
class Subject:
    """A row that is measured: its texts, its name, what it may have copied, and how close the
    reference texts are to that."""

    name: str
    given: Labelled
    rows: np.ndarray
    draws: Draws
    known: Known
    close: np.ndarray

    @property
    def texts(self) -> Sequence[str]:
        return self.given.texts


def measure(tools: Instruments, row: Subject, measured: Measured) -> Iterator[None]:
    """Measures the `GROUPS` groups of `COLUMNS` and the summary into `measured`, one group each
    time it is asked for."""
    for group in (_length, _diversity, _fidelity, _coherence, _copying):
        measured.estimates.update(group(tools, row, measured))
        yield
    measured.estimates.update(_utility(tools, row.given))
    measured.estimates.update(summary.summary_estimates(measured.parts, measured.reasons))
    yield


def _length(tools: Instruments, row: Subject, measured: Measured) -> dict[str, Estimate]:
    words = lengths(row.texts)
    percentiles = {f"words_p{p}": Estimate(float(np.percentile(words, p))) for p in (10, 50, 90)}
    return {"words_mean": mean_with_interval(words, row.draws.own)} | percentiles


def _diversity(tools: Instruments, row: Subject, measured: Measured) -> dict[str, Estimate]:
    equal, other = (first_words(t, tools.equal_words) for t in (row.texts, tools.reference.texts))
    reference = tools.vectors(tools.reference.texts)
    vendi = _vendi_share(row, reference)
    measured.take("diversity_score", summary.diversity(vendi, _grams_share(row, equal, other)), "")
    return {
        "distinct": _or_short(diversity.distinct_product(row.texts), 4),
        "three_grams": _three_grams(row.texts, row.draws),
        "three_grams_equal_words": _three_grams(equal, row.draws),
        "repetition": mean_with_interval(diversity.repetitions(row.texts), row.draws.own),
        "compression": Estimate(diversity.compression_ratio(row.texts)),
        "cosine_self": fidelity.self_cosine(row.rows, row.draws.own),
        "self_bleu": _self_bleu(tools, row.texts),
        "vendi_1": _vendi(row, 1),
        "vendi_2": _vendi(row, 2),
    }


def _vendi(row: Subject, order: int) -> Estimate:
    # On the logarithm, where it is nearer to a sum over texts.
    score = diversity.vendi_score(row.rows, order)
    found = row.draws.of(log(score), diversity.vendi_influence(row.rows, order))
    return combine(np.exp, found).estimate


def _vendi_share(row: Subject, reference: np.ndarray) -> Sampled:
    """Logarithm of the row's Vendi score over the reference texts'."""
    scores = [diversity.vendi_score(rows, 1) for rows in (row.rows, reference)]
    own, other = (diversity.vendi_influence(rows, 1) for rows in (row.rows, reference))
    return row.draws.of(log(scores[0] / scores[1]), own, -other)


def _grams_share(row: Subject, own: Sequence[str], other: Sequence[str]) -> Sampled | None:
    """Logarithm of the distinct 3-grams of the row over the reference texts', at equal words."""
    shares = [diversity.distinct(texts, 3) for texts in (own, other)]
    if any(isnan(share) for share in shares):
        return None
    influences = [
        _grams_influence(texts, share) / share
        for texts, share in zip((own, other), shares, strict=True)
    ]
    return row.draws.of(log(shares[0] / shares[1]), influences[0], -influences[1])


def _grams_influence(texts: Sequence[str], share: float) -> np.ndarray:
    without = diversity.distinct_without(texts, 3)
    return jackknife(share, np.where(np.isnan(without), share, without))


def _three_grams(texts: Sequence[str], draws: Draws) -> Estimate:
    share = diversity.distinct(texts, 3)
    if isnan(share):
        return _or_short(share, 3)
    # Texts drawn twice would lower this share: no bootstrap, but a jackknife.
    return draws.of(share, _grams_influence(texts, share)).estimate


def _or_short(value: float, words: int) -> Estimate:
    return Estimate(None, reason=f"no text has {words} words") if isnan(value) else Estimate(value)


def _self_bleu(tools: Instruments, texts: Sequence[str]) -> Estimate:
    # Rows are drawn at random: the first texts are a sample.
    scores = diversity.self_bleus(texts[:BLEU_TEXTS])
    seed = derive(tools.settings.seed, "bootstrap")
    counts = resample_counts(len(scores), tools.settings.bootstrap, seed)
    return mean_with_interval(scores, counts)


def _fidelity(tools: Instruments, row: Subject, measured: Measured) -> dict[str, Estimate]:
    reference = tools.vectors(tools.reference.texts)
    return {
        "cosine_real": mean_with_interval(
            fidelity.mean_cosines(row.rows, reference), row.draws.own
        ),
        "mauve": _mauve(row.rows, reference, tools.settings.mauve_seeds),
        **_detectors(tools, row, reference, measured),
        **_cover(row, reference),
    }


def _detectors(
    tools: Instruments, row: Subject, reference: np.ndarray, measured: Measured
) -> dict[str, Estimate]:
    sides = detectors.Sides(
        [*row.texts, *tools.reference.texts],
        np.concatenate([row.rows, reference]),
        _readings(tools, row),
    )
    seed = derive(tools.settings.seed, "folds")
    found = detectors.detect(sides, tools.settings.folds, seed)
    stack = found.get(detectors.STACK)
    score = summary.fidelity(stack.sampled(row.draws)) if stack else None
    measured.take("fidelity_score", score, TOO_FEW)
    names = {detectors.STACK: "auroc"} | {name: f"auroc_{name}" for name in detectors.DETECTORS}
    missing, folds = NO_READINGS if found else TOO_FEW, tools.settings.folds
    return {
        key: _on_folds(found[name], folds) if name in found else Estimate(None, reason=missing)
        for name, key in names.items()
    }


def _on_folds(found: detectors.Detection, asked: int) -> Estimate:
    if found.folds == asked:
        return found.estimate
    few = f"{found.folds} of {asked} folds: texts repeat too much for more"
    return replace(found.estimate, reason=few)


def _readings(tools: Instruments, row: Subject) -> np.ndarray | None:
    """Reads both sides: what the judge says of the tokens of each text, (texts, figures)."""
    read = tools.settings.judged is None or tools.settings.judged >= len(row.texts)
    if tools.judge is None or not read:
        return None
    both = [tools.judge(given) for given in (row.given, tools.reference)]
    return np.concatenate([each.table for each in both])


def _mauve(rows: np.ndarray, reference: np.ndarray, seeds: int) -> Estimate:
    if seeds and not fidelity.mauve_installed():
        return Estimate(None, reason=MAUVE_MISSING)
    scores = [fidelity.mauve_score(rows, reference, seed) for seed in range(seeds)]
    return mean_with_sd(scores, "left out by mauve_seeds 0")


def _cover(row: Subject, reference: np.ndarray) -> dict[str, Estimate]:
    covered = manifold.cover(row.rows, reference)
    own, other = row.draws.own, row.draws.reference
    curves = {
        "alpha_precision": (manifold.alpha_precision(row.rows, reference), own),
        "beta_recall": (manifold.beta_recall(row.rows, reference), other),
    }
    return {
        "precision": mean_with_interval(covered.precision, own),
        "recall": mean_with_interval(covered.recall, other),
        "density": mean_with_interval(covered.density, own),
        "coverage": mean_with_interval(covered.coverage, other),
    } | {key: manifold.score(inside, counts) for key, (inside, counts) in curves.items()}


def _coherence(tools: Instruments, row: Subject, measured: Measured) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for read, end, reason in ((tools.judge, "", NO_JUDGE), (tools.second, "_2", NO_SECOND)):
        keys = [f"{key}{end}" for key in ("nonsense", "likelihood_distance", "judge_gap")]
        if read is None:
            found |= dict.fromkeys(keys, Estimate(None, reason=reason))
            continue
        mine, real = (read(judged(tools.settings, t)).mean for t in (row.given, tools.reference))
        chosen = tools.draws(row.name, len(mine))
        share, usual = coherence.nonsense(mine, real, chosen)
        apart = coherence.distance(mine, real, chosen)
        figures = (share, apart, coherence.gap(mine, real, chosen))
        found |= {key: each.estimate for key, each in zip(keys, figures, strict=True)}
        if read is tools.judge:
            floor = tools.judged_floor
            score = summary.coherence(share, usual, apart, floor) if usual < 1 else None
            measured.take("coherence_score", score, ALIKE)
    if tools.judge is None:
        measured.take("coherence_score", None, NO_JUDGE)
    return found


def judged(settings: EvaluationSettings, row: Labelled) -> Labelled:
    """Texts of a row that the judges read: the first ones, as rows are drawn at random."""
    return row.pick(range(min(len(row.texts), settings.judged or len(row.texts))))


def _copying(tools: Instruments, row: Subject, measured: Measured) -> dict[str, Estimate]:
    texts, rows, known = row.texts, row.rows, row.known
    values = {
        "exact_copies": copying.exact_copies(texts, known),
        "near_copies": copying.near_copies(texts, known),
        "longest_run": copying.longest_runs(texts, known.texts),
        "nearest_cosine": copying.nearest_cosines(rows, known.rows),
    }
    if len(known.distinct) > 1:
        values["authenticity"] = copying.authentic(rows, known)
    estimates = {key: mean_with_interval(each, row.draws.own) for key, each in values.items()}
    one_text = Estimate(None, reason="the training texts are one text repeated")
    near = values["near_copies"]
    mine = copying.closeness(near, values["nearest_cosine"])
    share, usual = shares_below(mine, row.close, copying.TAIL, row.draws)
    score = summary.non_copying(share, usual) if usual < 1 else None
    measured.take("non_copying_score", score, "the real texts are copies themselves")
    return {"authenticity": one_text} | estimates | {"too_close": share.estimate}


def _utility(tools: Instruments, row: Labelled) -> dict[str, Estimate]:
    keys = ("utility", "utility_added", "utility_network", "utility_network_added")
    if tools.settings.utility is None:
        return dict.fromkeys(keys, Estimate(None, reason=NO_UTILITY))
    labelled = tools.settings.utility == "labels"
    examples = _labels if labelled else _answers
    mine, real, test = (examples(tools, s) for s in (row, tools.held_out, tools.reference))
    reason = _short(mine, len(row.texts))
    # Nothing can be added to the real texts but themselves, and no utility comes from nothing.
    added = mine if row is tools.held_out or not len(mine) else real + mine
    networks = _networks(tools, row) if labelled else [Estimate(None, reason=NO_NETWORK)] * 2
    found = [_trained(tools, mine, test, reason), _trained(tools, added, test, reason), *networks]
    return dict(zip(keys, found, strict=True))


def _networks(tools: Instruments, row: Labelled) -> list[Estimate]:
    """Trains small networks on the row alone, and on few real texts with the row beside them; the
    row of real texts itself is told by these few alone."""
    seed = derive(tools.settings.seed, "utility")
    beside = Labelled([], []) if row is tools.held_out else row
    sets = (row, utility.beside_real(beside, tools.held_out, seed))
    scores = (utility.network_scores(each, tools.reference, seed) for each in sets)
    return [mean_with_sd(each, ONE_LABEL) for each in scores]


def _trained(
    tools: Instruments, train: utility.Examples, test: utility.Examples, reason: str | None
) -> Estimate:
    labels = tools.settings.utility == "labels"
    scores = utility.label_scores if labels else utility.answer_scores
    seed = derive(tools.settings.seed, "utility")
    accuracies = scores(train, test, seed) if len(train) and len(test) else []
    estimate = mean_with_sd(accuracies, ONE_LABEL)
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

"""Synthetic texts measured against real ones, beside the same figures for real texts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.data.words import length_bins, lengths
from steer.errors import SteerError
from steer.evaluation import fidelity
from steer.evaluation.copying import Known
from steer.evaluation.estimate import Estimate, resample_counts
from steer.evaluation.measure import (
    GROUPS,
    MAUVE_MISSING,
    NO_JUDGE,
    NO_SECOND,
    NO_UTILITY,
    Instruments,
    Vectors,
    judged,
    measure,
    questions,
)
from steer.evaluation.sets import Labelled, Texts, as_labelled, check, check_labels, draw, without
from steer.evaluation.settings import MIN_TEXTS, EvaluationSettings
from steer.evaluation.summary import summarise
from steer.evaluation.table import COLUMNS, Evaluation, Histogram, Row
from steer.models.cache import Cache
from steer.models.embedder import Embedder, load_embedder
from steer.models.judge import Judge, load_judge
from steer.seeds import derive

__all__ = ["Evaluation", "EvaluationProgress", "EvaluationSettings", "Labelled", "evaluate"]

REAL = "real"
MAUVE_TEXTS = 500


@dataclass(frozen=True)
class EvaluationProgress:
    """Progress of an evaluation: `done` of `total` in one stage: "loading judge", "judging"
    (distinct texts; with a second judge again, as "loading judge 2" and "judging 2"), "loading the
    embedder", "embedding" (distinct texts), "measuring" (groups of metrics)."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[EvaluationProgress], None]
Score = Callable[[Labelled], np.ndarray]


def evaluate(
    synthetic: Mapping[str, Texts],
    real: Texts,
    *,
    train: Texts | None = None,
    settings: EvaluationSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measures each named set of `synthetic` and, as the ceiling, `real` itself.

    The real texts are halved at random: one half is the reference of every row, the other is the
    row "real". Every row has equally many texts. Copying is measured against `train`, the texts
    that the expert was fitted on; without it, against the reference half only. The result does
    not depend on the order of any texts. Sets with labels come as `Labelled` or `Corpus`.

    Raises SteerError for a set that is empty, has an empty text or is called "real", for too few
    texts, for labels that a judge or the utility needs and a set lacks, and for an embedder or
    judge that cannot be loaded.
    """
    settings = settings or EvaluationSettings()
    sets = {name: as_labelled(texts) for name, texts in synthetic.items()}
    whole, trained = as_labelled(real), None if train is None else as_labelled(train)
    _check(sets, whole, trained, settings)
    n = _size(sets, whole, settings)
    reference, rows = _draw_rows(sets, whole, n, settings.seed)
    known = list(reference.texts) if trained is None else sorted(trained.texts)
    evaluator = _Evaluator(rows, reference, known, settings, on_progress or _ignore)
    measured = evaluator.measure(evaluator.instruments())
    notes = (
        *_size_notes(sets, whole, n, settings),
        *_copying_notes(trained, n, without(known, rows[REAL].texts)[1]),
        *_mauve_notes(settings, n),
        *evaluator.notes,
        *_reason_notes(measured, settings),
    )
    shown = settings.model_dump(mode="json")
    histogram = _histogram({name: row.texts for name, row in rows.items()})
    return Evaluation(measured, n, evaluator.embedder, shown, notes, settings.judges, histogram)


class _Evaluator:
    """One evaluation in the making: models are loaded, used and let go, one after another."""

    def __init__(
        self,
        rows: Mapping[str, Labelled],
        reference: Labelled,
        known: list[str],
        settings: EvaluationSettings,
        report: OnProgress,
    ) -> None:
        self.rows, self.reference, self.known = rows, reference, known
        self.settings, self.report = settings, report
        self.cache = Cache() if settings.cache else None
        self.notes: list[str] = []
        self.embedder = ""

    def instruments(self) -> Instruments:
        n, settings = len(self.reference.texts), self.settings
        scores = [self._judge(i, name) for i, name in enumerate(settings.judges)]
        vectors = self._vectors()
        if self.cache and self.cache.problem:
            self.notes.append(f"the cache {self.cache.path} was not used: {self.cache.problem}")
        return Instruments(
            settings,
            self.reference,
            self.rows[REAL],
            vectors,
            scores,
            resample_counts(n, settings.bootstrap, derive(settings.seed, "bootstrap")),
            min(int(lengths(row.texts).sum()) for row in self.rows.values()),
        )

    def measure(self, tools: Instruments) -> tuple[Row, ...]:
        """Measures all rows, the real one last, each with its summary."""
        threshold = self.settings.near_copy
        known = Known(self.known, tools.vectors(self.known), threshold)
        rest, overlap = without(self.known, self.rows[REAL].texts)
        unseen = Known(rest, tools.vectors(rest), threshold) if overlap else known
        estimates: dict[str, dict[str, Estimate]] = {}
        for i, (name, row) in enumerate(self.rows.items()):
            groups = measure(tools, row, unseen if name == REAL else known)
            estimates[name] = self._gather(groups, GROUPS * i)
        real = estimates[REAL]
        return tuple(Row(name, each | summarise(each, real)) for name, each in estimates.items())

    def _gather(self, groups: Iterator[dict[str, Estimate]], done: int) -> dict[str, Estimate]:
        estimates: dict[str, Estimate] = {}
        for step, group in enumerate(groups, start=done + 1):
            estimates |= group
            self.report(EvaluationProgress("measuring", step, GROUPS * len(self.rows)))
        return estimates

    def _vectors(self) -> Vectors:
        """Embeds all texts, once each; gives a function from any of them to their unit rows."""
        self.report(EvaluationProgress("loading the embedder", 0, 1))
        embedder = load_embedder(self.settings.embedder, self.cache)
        self.report(EvaluationProgress("loading the embedder", 1, 1))
        self.embedder = embedder.name
        texts = sorted({*self._texts(), *self.known})
        self._note_cut(embedder, "the embedder", texts)
        if self.settings.utility == "answers":
            asked = questions(self._texts())
            parts = {part for each in asked for part in (each.question, *each.options)}
            texts = sorted(parts.union(texts))
        matrix = embedder.embed(texts, self._counted("embedding"))
        index = {text: i for i, text in enumerate(texts)}
        return lambda wanted: matrix[[index[text] for text in wanted]]

    def _judge(self, place: int, name: str) -> Score:
        """Scores all texts by one judge; gives a function from any set to its scores."""
        number = f" {place + 1}" if place else ""
        self.report(EvaluationProgress(f"loading judge{number}", 0, 1))
        whole = [*self.rows.values(), self.reference]
        everything = [judged(self.settings, each) for each in whole]
        labels = sorted({label for each in everything for label in each.labels or ()})
        judge = load_judge(name, self.settings.prompt, labels, self.cache)
        if judge.task and judge.task.labels:
            check_labels(self.rows, f"the judge {name} was fitted with")
        self.report(EvaluationProgress(f"loading judge{number}", 1, 1))
        pairs = sorted({pair for each in everything for pair in _pairs(each)})
        texts, given = [text for text, _ in pairs], [label for _, label in pairs]
        self._note_cut(judge, f"the judge {name}", texts)
        scores = judge.log_likelihoods(texts, given, self._counted(f"judging{number}"))
        score = dict(zip(pairs, scores, strict=True))
        return lambda wanted: np.array([score[pair] for pair in _pairs(wanted)])

    def _texts(self) -> list[str]:
        return [text for each in (*self.rows.values(), self.reference) for text in each.texts]

    def _counted(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(EvaluationProgress(stage, done, total))

    def _note_cut(self, reader: Embedder | Judge, what: str, texts: list[str]) -> None:
        if cut := reader.cut(texts):
            self.notes.append(f"texts longer than {what} reads: {cut}; their ends have no effect")


def _pairs(given: Labelled) -> list[tuple[str, str]]:
    """Pairs of a text and its label, "" without labels."""
    labels = given.labels or [""] * len(given.texts)
    return list(zip(given.texts, labels, strict=True))


def _draw_rows(
    sets: Mapping[str, Labelled], real: Labelled, n: int, seed: int
) -> tuple[Labelled, dict[str, Labelled]]:
    """Draws `n` texts for the reference and for each row of the table, the real row last."""
    halves = draw(real, 2 * n, seed, "real")
    rows = {name: draw(given, n, seed, "synthetic") for name, given in sets.items()}
    return halves.pick(range(n)), rows | {REAL: halves.pick(range(n, 2 * n))}


def _ignore(progress: EvaluationProgress) -> None:
    """Ignores progress, for a caller who does not ask for it."""


def _histogram(rows: Mapping[str, Sequence[str]]) -> Histogram:
    words = {name: lengths(texts) for name, texts in rows.items()}
    edges = length_bins(list(words.values()))
    counts = {name: np.histogram(each, edges)[0].tolist() for name, each in words.items()}
    return Histogram(tuple(edges.tolist()), {name: tuple(each) for name, each in counts.items()})


def _check(
    sets: Mapping[str, Labelled],
    real: Labelled,
    train: Labelled | None,
    settings: EvaluationSettings,
) -> None:
    if not sets:
        raise SteerError("there are no synthetic texts: give at least one named set")
    if REAL in sets:
        raise SteerError(f"a synthetic set is called '{REAL}', the name of the ceiling: rename it")
    given = {**sets, "the real texts": real}
    for name, each in ({**given, "train": train} if train else given).items():
        check(name, each)
    if settings.utility == "labels":
        check_labels(given, "the utility on labels needs")


def _size(sets: Mapping[str, Labelled], real: Labelled, settings: EvaluationSettings) -> int:
    sizes = {name: len(given.texts) for name, given in sets.items()}
    name = min(sizes, key=lambda each: sizes[each])
    smallest, half = sizes[name], len(real.texts) // 2
    if min(smallest, half) < MIN_TEXTS:
        raise SteerError(
            f"too few texts: '{name}' has {smallest} and there are {len(real.texts)} real ones; "
            f"give at least {MIN_TEXTS} and {2 * MIN_TEXTS}"
        )
    return min(smallest, half, settings.n or half)


def _size_notes(
    sets: Mapping[str, Labelled], real: Labelled, n: int, settings: EvaluationSettings
) -> Iterator[str]:
    sizes = {name: len(given.texts) for name, given in sets.items()}
    cut = [f"{n} of the {size} of {name}" for name, size in sizes.items() if size > n]
    if len(real.texts) > 2 * n:
        cut.append(f"2 x {n} of the {len(real.texts)} real ones")
    if cut:
        yield f"every row has {n} texts, drawn with seed {settings.seed}: {', '.join(cut)}"
    if settings.n and settings.n > n:
        yield f"{settings.n} texts a row were asked for; there are enough for {n}"


def _copying_notes(train: Labelled | None, n: int, overlap: int) -> Iterator[str]:
    if train is None:
        yield f"no training texts were given: copying is measured against {n} real texts"
        return
    yield f"copying is measured against {len(train.texts)} training texts"
    if overlap:
        yield (
            f"{overlap} of the {n} texts of the row '{REAL}' are training texts: "
            "its copying is measured against the others"
        )


def _mauve_notes(settings: EvaluationSettings, n: int) -> Iterator[str]:
    if not settings.mauve_seeds:
        return
    if not fidelity.mauve_installed():
        yield MAUVE_MISSING
    elif n < MAUVE_TEXTS:
        yield f"MAUVE is not to be trusted below {MAUVE_TEXTS} texts a row: there are {n}"


def _reason_notes(rows: Sequence[Row], settings: EvaluationSettings) -> Iterator[str]:
    said = {NO_JUDGE, NO_SECOND, NO_UTILITY, "without coherence"}  # reasons that all rows share
    elsewhere = {"mauve", "utility_added"}  # noted for all rows, or under "utility"
    if not settings.judges:
        yield f"coherence is not measured and not in the summary: {NO_JUDGE}"
    for row in rows:
        for column in COLUMNS:
            reason = row.estimates[column.key].reason
            if reason and reason not in said and column.key not in elsewhere:
                yield f"{row.name}, {column.title}: {reason}"

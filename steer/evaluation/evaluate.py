"""Synthetic texts measured against real ones, beside the same figures for real texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.data.corpus import Corpus
from steer.data.words import length_bins, lengths
from steer.errors import SteerError
from steer.evaluation import notes
from steer.evaluation.copying import (
    Known,
    closeness,
    closeness_among,
    near_copies,
    nearest_cosines,
)
from steer.evaluation.differences import Difference, differences, verdict
from steer.evaluation.estimate import draws
from steer.evaluation.marginals import marginals
from steer.evaluation.measure import (
    GROUPS,
    Instruments,
    Measured,
    Read,
    Subject,
    Vectors,
    judged,
    measure,
    questions,
)
from steer.evaluation.sets import Labelled, Texts, as_labelled, check, check_labels, draw, without
from steer.evaluation.settings import MIN_TEXTS, EvaluationSettings
from steer.evaluation.summary import SUMMARY, summarise
from steer.evaluation.table import COLUMNS, REAL, Evaluation, Histogram, Row
from steer.models.cache import Cache
from steer.models.embedder import Embedder, load_embedder
from steer.models.judge import Judge, load_judge
from steer.models.ngrams import NgramJudge
from steer.models.readings import Readings

__all__ = ["Evaluation", "EvaluationProgress", "EvaluationSettings", "Labelled", "evaluate"]


@dataclass(frozen=True)
class EvaluationProgress:
    """Progress of an evaluation: `done` of `total` in one stage: "loading judge", "judging"
    (distinct texts; with a second judge again, as "loading judge 2" and "judging 2"), "loading the
    embedder", "embedding" (distinct texts), "measuring" (groups of metrics)."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[EvaluationProgress], None]


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
    not depend on the order of any texts. Sets with labels come as `Labelled` or `Corpus`. Where
    `real` is a corpus of objects, each column of numbers or categories is measured too.

    Raises SteerError for a set that is empty, has an empty text or is called "real", for too few
    texts, for labels that a judge or the utility needs and a set lacks, for an embedder or judge
    that cannot be loaded, and for a judge that finds no token in a text.
    """
    settings = settings or EvaluationSettings()
    sets = {name: as_labelled(texts) for name, texts in synthetic.items()}
    whole, trained = as_labelled(real), None if train is None else as_labelled(train)
    _check(sets, whole, trained, settings)
    n = _size(sets, whole, settings)
    reference, rows = _draw_rows(sets, whole, n, settings.seed)
    known = list(reference.texts) if trained is None else sorted(trained.texts)
    evaluator = _Evaluator(rows, reference, known, settings, on_progress or _ignore)
    found = evaluator.measure(evaluator.instruments(), trained is not None)
    measured = tuple(Row(name, each.estimates) for name, each in found.items())
    apart, said = _compared(found, n)
    told = (
        *notes.size_notes(sets, whole, n, settings),
        *notes.copying_notes(trained, n, without(known, rows[REAL].texts)[1]),
        *notes.mauve_notes(settings, n),
        *evaluator.notes,
        *notes.reason_notes(measured, settings),
    )
    return Evaluation(
        measured,
        n,
        evaluator.embedder,
        settings.model_dump(mode="json"),
        told,
        evaluator.judges,
        apart,
        said,
        _histogram({name: row.texts for name, row in rows.items()}),
        marginals(
            real.shape if isinstance(real, Corpus) else None,
            rows,
            reference,
            lambda name: draws(n, settings.bootstrap, settings.seed, name),
        ),
    )


def _compared(rows: Mapping[str, Measured], n: int) -> tuple[tuple[Difference, ...], str]:
    """Compares all rows by the summary, or by fidelity where there is none."""
    whole = {name: summarise(each.parts) for name, each in rows.items()}
    key, title = SUMMARY, "the summary"
    if all(each is None for each in whole.values()):
        key, title = "fidelity_score", "fidelity alone (there is no summary without coherence)"
        whole = {name: each.parts.get(key) for name, each in rows.items()}
    known = {name: each for name, each in whole.items() if each is not None}
    apart = differences(key, known)
    values = {name: each.value for name, each in known.items()}
    return apart, verdict(title, values, apart, REAL, n)


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
        self.judges: tuple[str | None, ...] = ()

    def instruments(self) -> Instruments:
        judge, second = self._judges()
        vectors = self._vectors()
        if self.cache and self.cache.problem:
            self.notes.append(f"the cache {self.cache.path} was not used: {self.cache.problem}")
        totals = [int(lengths(row.texts).sum()) for row in (*self.rows.values(), self.reference)]
        # A set without words has no 3-grams; it leaves those of the others as they are.
        equal_words = min((total for total in totals if total), default=0)
        real = self.rows[REAL]
        return Instruments(self.settings, self.reference, real, vectors, judge, second, equal_words)

    def measure(self, tools: Instruments, trained: bool) -> dict[str, Measured]:
        """Measures all rows, the real one last."""
        reference = self.reference.texts
        known = Known(self.known, tools.vectors(self.known), self.settings.near_copy)
        unseen = self._without(known, tools, self.rows[REAL].texts)
        rows = tools.vectors(reference)
        if trained:
            beside = self._without(known, tools, reference)
            close = closeness(near_copies(reference, beside), nearest_cosines(rows, beside.rows))
        else:
            close = closeness_among(rows)
        measured: dict[str, Measured] = {}
        for i, (name, given) in enumerate(self.rows.items()):
            copied = unseen if name == REAL else known
            rows, drawn = tools.vectors(given.texts), tools.draws(name, len(given.texts))
            row = Subject(name, given, rows, drawn, copied, close)
            measured[name] = self._gather(tools, row, GROUPS * i)
        return measured

    def _without(self, known: Known, tools: Instruments, held_out: Sequence[str]) -> Known:
        """What may have been copied, without real texts that were drawn from it."""
        rest, overlap = without(self.known, held_out)
        return Known(rest, tools.vectors(rest), known.threshold) if overlap else known

    def _gather(self, tools: Instruments, row: Subject, done: int) -> Measured:
        measured = Measured()
        for step, _ in enumerate(measure(tools, row, measured), start=done + 1):
            self.report(EvaluationProgress("measuring", step, GROUPS * len(self.rows)))
        ordered = {column.key: measured.estimates[column.key] for column in COLUMNS}
        return Measured(ordered, measured.parts, measured.reasons)

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

    def _judges(self) -> tuple[Read | None, Read | None]:
        """Reads all texts with the judges; gives the first outside one, and the other."""
        outside: dict[str, Read] = {}
        apart: dict[str, Read] = {}
        for place, name in enumerate(self.settings.judges):
            read, sibling = self._judge(place, name)
            (apart if sibling or outside else outside)[name] = read
        shown = list(apart)[:1]
        for name in apart if not outside else ():
            self.notes.append(
                f"the judge {name} is of the base model that wrote the texts, or may be: it is "
                f"{'shown apart' if name in shown else 'not shown'}; name one of another family"
            )
        names = [*(outside or [None]), *shown]
        self.judges = tuple(names if self.settings.judges else ())
        first = next(iter(outside.values()), None)
        return first, next(iter(apart.values()), None)

    def _judge(self, place: int, name: str) -> tuple[Read, bool]:
        """Reads all texts with one judge; gives a function from any set to its readings, and
        whether the judge is a sibling of what wrote the texts."""
        number = f" {place + 1}" if place else ""
        self.report(EvaluationProgress(f"loading judge{number}", 0, 1))
        whole = [*self.rows.values(), self.reference]
        everything = [judged(self.settings, each) for each in whole]
        labels = sorted({label for each in everything for label in each.labels or ()})
        judge = load_judge(name, self.settings.prompt, labels, self.cache, self.settings.reading)
        if judge.task and judge.task.labels:
            check_labels(self.rows, f"the judge {name} was fitted with")
        self.report(EvaluationProgress(f"loading judge{number}", 1, 1))
        pairs = sorted({pair for each in everything for pair in _pairs(each)})
        texts, given = [text for text, _ in pairs], [label for _, label in pairs]
        self._note_cut(judge, f"the judge {name}", texts)
        found = judge.read(texts, given, self._counted(f"judging{number}"))
        _check_read(found, texts, name)
        places = {pair: place for place, pair in enumerate(pairs)}
        sibling = judge.is_sibling(self.settings.base)

        def read(wanted: Labelled) -> Readings:
            return found.pick([places[pair] for pair in _pairs(wanted)])

        return read, sibling

    def _texts(self) -> list[str]:
        return [text for each in (*self.rows.values(), self.reference) for text in each.texts]

    def _counted(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(EvaluationProgress(stage, done, total))

    def _note_cut(self, reader: Embedder | Judge | NgramJudge, what: str, texts: list[str]) -> None:
        if cut := reader.cut(texts):
            self.notes.append(f"texts longer than {what} reads: {cut}; their ends have no effect")


def _pairs(given: Labelled) -> list[tuple[str, str]]:
    """Pairs of a text and its label, "" without labels."""
    labels = given.labels or [""] * len(given.texts)
    return list(zip(given.texts, labels, strict=True))


def _check_read(found: Readings, texts: Sequence[str], name: str) -> None:
    unread = [text for text, tokens in zip(texts, found.tokens, strict=True) if not tokens]
    if unread:
        raise SteerError(
            f"the judge {name} finds no token in {len(unread)} texts, such as {unread[0]!r}: leave "
            "them out, or name another judge"
        )


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

"""Synthetic texts measured against real ones, beside the same figures for real texts."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.errors import SteerError
from steer.metrics import fidelity
from steer.metrics.bench import MAUVE_MISSING, MIN_TEXTS, Bench, EvaluationSettings, measure
from steer.metrics.embedding import Embedder, load_embedder
from steer.metrics.estimate import Estimate, resample_counts
from steer.metrics.table import COLUMNS, Evaluation, Row
from steer.metrics.words import lengths
from steer.seeds import derive

__all__ = ["Evaluation", "EvaluationSettings", "Progress", "evaluate"]

REAL = "real"
MAUVE_TEXTS = 500


@dataclass(frozen=True)
class Progress:
    """`done` of `total` in one stage: "loading the embedder", "embedding" (distinct texts),
    "measuring" (groups of metrics)."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def evaluate(
    synthetic: Mapping[str, Sequence[str]],
    real: Sequence[str],
    *,
    train: Sequence[str] | None = None,
    settings: EvaluationSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measures each named set of `synthetic` and, as the ceiling, `real` itself.

    The real texts are halved at random: one half is the reference of every row, the other is the
    row "real". Every row has equally many texts. Copying is measured against `train`, the texts
    that the expert was fitted on; without it, against the reference half only. The result does
    not depend on the order of any texts. Raises SteerError for a set that is empty, has an empty
    text or is called "real", and for too few texts.
    """
    settings = settings or EvaluationSettings()
    _check(synthetic, real, train)
    n = _size(synthetic, real, settings)
    halves = _draw(real, 2 * n, settings.seed, "real")
    reference, held_out = halves[:n], halves[n:]
    rows = {name: _draw(texts, n, settings.seed, "synthetic") for name, texts in synthetic.items()}
    rows[REAL] = held_out
    known = reference if train is None else sorted(train)
    report = on_progress or _ignore
    bench = _make_bench(rows, reference, known, settings, report)
    unseen, overlap = _without(known, held_out)
    measured = []
    for i, (name, texts) in enumerate(rows.items()):
        groups = measure(bench, texts, unseen if name == REAL else known)
        measured.append(_row(name, groups, 4 * i, 4 * len(rows), report))
    notes = (
        *_size_notes(synthetic, real, n, settings),
        *_copying_notes(train, n, overlap),
        *_model_notes(bench, n),
        *_reason_notes(measured),
    )
    shown = settings.model_dump(mode="json")
    return Evaluation(tuple(measured), n, bench.embedder, shown, notes)


def _make_bench(
    rows: Mapping[str, list[str]],
    reference: list[str],
    train: list[str],
    settings: EvaluationSettings,
    report: OnProgress,
) -> Bench:
    report(Progress("loading the embedder", 0, 1))
    embedder = load_embedder(settings.embedder)
    report(Progress("loading the embedder", 1, 1))
    texts = sorted({*reference, *train, *(text for row in rows.values() for text in row)})
    return Bench(
        settings,
        reference,
        _lookup(embedder, texts, report),
        resample_counts(len(reference), settings.bootstrap, derive(settings.seed, "bootstrap")),
        min(int(lengths(row).sum()) for row in rows.values()),
        embedder.name,
        embedder.cut(texts),
    )


def _ignore(progress: Progress) -> None:
    """For a caller who does not ask for progress."""


def _lookup(
    embedder: Embedder, texts: list[str], report: OnProgress
) -> Callable[[Sequence[str]], np.ndarray]:
    """Embeds `texts`, once each; gives a function from any of them to their unit rows."""
    matrix = embedder.embed(texts, lambda done, total: report(Progress("embedding", done, total)))
    index = {text: i for i, text in enumerate(texts)}
    return lambda wanted: matrix[[index[text] for text in wanted]]


def _row(
    name: str, groups: Iterator[dict[str, Estimate]], done: int, total: int, report: OnProgress
) -> Row:
    estimates: dict[str, Estimate] = {}
    for step, group in enumerate(groups, start=done + 1):
        estimates |= group
        report(Progress("measuring", step, total))
    return Row(name, estimates)


def _draw(texts: Sequence[str], n: int, seed: int, what: str) -> list[str]:
    """`n` of `texts`, which depend on the texts but not on their order."""
    ordered = sorted(texts)
    picked = np.random.default_rng(derive(seed, "draw", what)).permutation(len(ordered))[:n]
    return [ordered[i] for i in picked]


def _without(train: list[str], held_out: list[str]) -> tuple[list[str], int]:
    """`train` without the `held_out` texts that are its own, and how many those are.

    Real texts that were drawn from the training file are no copies of themselves. A small
    overlap, though, is real texts repeating each other, and belongs into the ceiling.
    """
    rest = Counter(train) - Counter(held_out)
    overlap = len(train) - rest.total()
    if 2 * overlap <= len(held_out) or not rest:
        return train, 0
    return list(rest.elements()), overlap


def _check(
    synthetic: Mapping[str, Sequence[str]], real: Sequence[str], train: Sequence[str] | None
) -> None:
    if not synthetic:
        raise SteerError("there are no synthetic texts: give at least one named set")
    if REAL in synthetic:
        raise SteerError(f"a synthetic set is called '{REAL}', the name of the ceiling: rename it")
    given = {**synthetic, "the real texts": real} | ({} if train is None else {"train": train})
    for name, texts in given.items():
        if not texts:
            raise SteerError(f"'{name}' has no texts: leave it out or give it some")
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str) or not text.strip():
                raise SteerError(
                    f"text {number} of '{name}' is {text!r}: every text must have words; remove it"
                )


def _size(
    synthetic: Mapping[str, Sequence[str]], real: Sequence[str], settings: EvaluationSettings
) -> int:
    name = min(synthetic, key=lambda each: len(synthetic[each]))
    smallest, half = len(synthetic[name]), len(real) // 2
    if min(smallest, half) < MIN_TEXTS:
        raise SteerError(
            f"too few texts: '{name}' has {smallest} and there are {len(real)} real ones; "
            f"give at least {MIN_TEXTS} and {2 * MIN_TEXTS}"
        )
    return min(smallest, half, settings.n or half)


def _size_notes(
    synthetic: Mapping[str, Sequence[str]],
    real: Sequence[str],
    n: int,
    settings: EvaluationSettings,
) -> Iterator[str]:
    sizes = {name: len(texts) for name, texts in synthetic.items()}
    cut = [f"{n} of the {size} of {name}" for name, size in sizes.items() if size > n]
    if len(real) > 2 * n:
        cut.append(f"2 x {n} of the {len(real)} real ones")
    if cut:
        yield f"every row has {n} texts, drawn with seed {settings.seed}: {', '.join(cut)}"
    if settings.n and settings.n > n:
        yield f"{settings.n} texts a row were asked for; there are enough for {n}"


def _copying_notes(train: Sequence[str] | None, n: int, overlap: int) -> Iterator[str]:
    if train is None:
        yield f"no training texts were given: copying is measured against {n} real texts"
        return
    yield f"copying is measured against {len(train)} training texts"
    if overlap:
        yield (
            f"{overlap} of the {n} texts of the row '{REAL}' are training texts: "
            "its copying is measured against the others"
        )


def _model_notes(bench: Bench, n: int) -> Iterator[str]:
    if bench.cut:
        yield f"texts longer than the embedder reads: {bench.cut}; their ends have no effect"
    if not bench.settings.mauve_seeds:
        return
    if not fidelity.mauve_installed():
        yield MAUVE_MISSING
    elif n < MAUVE_TEXTS:
        yield f"MAUVE is not to be trusted below {MAUVE_TEXTS} texts a row: there are {n}"


def _reason_notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for column in COLUMNS:
            reason = row.estimates[column.key].reason
            if reason and column.key != "mauve":  # the same for all rows, and said above
                yield f"{row.name}, {column.title}: {reason}"

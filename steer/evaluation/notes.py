"""Notes of an evaluation: plain sentences on what was cut, skipped or is not to be trusted."""

from collections.abc import Iterator, Mapping, Sequence

from steer.evaluation import fidelity
from steer.evaluation.measure import (
    MAUVE_MISSING,
    NO_JUDGE,
    NO_NETWORK,
    NO_READINGS,
    NO_SECOND,
    NO_UTILITY,
)
from steer.evaluation.sets import Labelled
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.summary import NO_SUMMARY
from steer.evaluation.table import COLUMNS, REAL, Row

MAUVE_TEXTS = 500


def size_notes(
    sets: Mapping[str, Labelled], real: Labelled, n: int, settings: EvaluationSettings
) -> Iterator[str]:
    """Says which texts were drawn, and what was asked for in vain."""
    sizes = {name: len(given.texts) for name, given in sets.items()}
    cut = [f"{n} of the {size} of {name}" for name, size in sizes.items() if size > n]
    if len(real.texts) > 2 * n:
        cut.append(f"2 x {n} of the {len(real.texts)} real ones")
    if cut:
        yield f"every row has {n} texts, drawn with seed {settings.seed}: {', '.join(cut)}"
    if settings.n and settings.n > n:
        yield f"{settings.n} texts a row were asked for; there are enough for {n}"


def copying_notes(train: Labelled | None, n: int, overlap: int) -> Iterator[str]:
    """Says what copying is measured against."""
    if train is None:
        yield f"no training texts were given: copying is measured against {n} real texts"
        return
    yield f"copying is measured against {len(train.texts)} training texts"
    if overlap:
        yield (
            f"{overlap} of the {n} texts of the row '{REAL}' are training texts: "
            "its copying is measured against the others"
        )


def mauve_notes(settings: EvaluationSettings, n: int) -> Iterator[str]:
    """Says why MAUVE is missing or not to be trusted."""
    if not settings.mauve_seeds:
        return
    if not fidelity.mauve_installed():
        yield MAUVE_MISSING
    elif n < MAUVE_TEXTS:
        yield f"MAUVE is not to be trusted below {MAUVE_TEXTS} texts a row: there are {n}"


def reason_notes(rows: Sequence[Row], settings: EvaluationSettings) -> Iterator[str]:
    """Says why figures are missing, each reason of a row once."""
    # Reasons that all rows share.
    said = {NO_JUDGE, NO_SECOND, NO_UTILITY, NO_NETWORK, NO_READINGS, NO_SUMMARY}
    elsewhere = {"mauve", "utility_added"}  # noted for all rows, or under "utility"
    if not settings.judges:
        yield f"coherence is not measured, so there is no summary: {NO_JUDGE} (--judge)"
    for row in rows:
        told = set(said)
        for column in COLUMNS:
            reason = row.estimates[column.key].reason
            if reason and reason not in told and column.key not in elsewhere:
                told.add(reason)
                yield f"{row.name}, {column.title}: {reason}"

"""Report in one HTML file that shows how methods compare: figures, texts, and where it all came
from."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from steer.config import Config
from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.evaluation.evaluate import EvaluationProgress
from steer.files import disk_errors, write_atomic
from steer.models.cache import Cache
from steer.models.embedder import load_embedder
from steer.report.features import Rows
from steer.report.material import REAL, Material, read_material
from steer.report.page import Choices, build, render
from steer.report.tracing import make_traces

OnProgress = Callable[[EvaluationProgress], None]


class ReportSettings(Config):
    """Settings of a report: for each method `records` drawn at random with `seed`, the `neighbours`
    nearest to a real text, and at most `points` on the map, which is by UMAP where the extra `umap`
    is installed and by t-SNE elsewhere.

    `mask` shows only the first letter of every word; None does so for the task "comments".
    Of each method, `traces` records are shown token by token; `expert` is that which wrote them,
    where the runs do not name its folder. `table` is a file that `steer evaluate --json`
    wrote; a comparison and a sweep have theirs in the folder. The `embedder` is the evaluation's,
    or all-MiniLM-L6-v2, unless one is named; what it computes is kept on disk unless `cache` is
    off.
    """

    mask: bool | None = None
    records: int = Field(50, ge=0)
    neighbours: int = Field(20, ge=0)
    points: int = Field(400, ge=0)
    seed: int = Field(0, ge=0)
    traces: int = Field(0, ge=0, le=20)
    expert: Path | None = None
    table: Path | None = None
    embedder: str | None = None
    cache: bool = True


def write_report(
    comparison: Path | Sequence[Path],
    real: Corpus,
    out: Path,
    *,
    settings: ReportSettings | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Writes the report on `comparison` to the file `out`, whole or not at all.

    `comparison` is what `steer compare` or `steer sweep` made, a run's folder, or several of
    these runs; what needs an evaluation is left out where there is none. The file opens offline
    and loads nothing. The same input gives the same bytes. Raises `SteerError` for anything else
    at `comparison`, damaged files, and when `out` cannot be written.
    """
    settings = settings or ReportSettings()
    material = read_material(comparison, settings.table)
    masked = material.explicit if settings.mask is None else settings.mask
    choices = Choices(masked, settings.records, settings.neighbours, settings.points, settings.seed)
    if masked and settings.traces:
        raise SteerError("the texts are masked, so there are no traces; --no-mask shows both")
    traces = make_traces(material, real, settings.traces, settings.expert)
    rows = _embed(material, real, settings, on_progress or _ignore)
    page = render(build(material, real, rows, choices, traces))
    with disk_errors(out):
        write_atomic(out, page.encode())


def _embed(material: Material, real: Corpus, settings: ReportSettings, report: OnProgress) -> Rows:
    """Embeds as unit rows every record and real text."""
    named = settings.embedder or (material.evaluation or {}).get("embedder")
    report(EvaluationProgress("loading the embedder", 0, 1))
    model = load_embedder(named, Cache() if settings.cache else None)
    report(EvaluationProgress("loading the embedder", 1, 1))
    sets = {method.name: method.texts for method in material.methods} | {REAL: list(real.texts)}
    everything = [text for texts in sets.values() for text in texts]
    matrix = model.embed(
        everything, lambda done, total: report(EvaluationProgress("embedding", done, total))
    )
    rows, start = {}, 0
    for name, texts in sets.items():
        rows[name] = matrix[start : start + len(texts)]
        start += len(texts)
    return Rows(model.name, rows)


def _ignore(progress: EvaluationProgress) -> None:
    """Ignores progress, for a caller who does not ask for it."""

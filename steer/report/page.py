"""Page of the report: what a comparison has to show, in order, and the file that shows it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from steer.correction.outcome import describe
from steer.data.corpus import Corpus
from steer.data.words import shared_words
from steer.report import figures
from steer.report.features import Plane, Rows, closest_pairs, project
from steer.report.figures import Figure, Points, Style
from steer.report.marginals import marginal_figures
from steer.report.material import REAL, Material, answer_shares
from steer.report.tables import headlines, measure_tables, verdict
from steer.report.texts import Texts, listed, mask
from steer.report.tracing import describe_trace
from steer.report.tradeoff import trade_offs
from steer.runs.records import Record
from steer.runs.traces import Trace
from steer.seeds import derive
from steer.version import __version__

MAPPED_TEXTS = 2000
"""Texts on the map at the most, of all sets together: more take long to place and hide another."""


@dataclass(frozen=True)
class Choices:
    """Choices of a reader: whether words are masked, and how much is shown of each method."""

    masked: bool
    records: int
    neighbours: int
    points: int
    seed: int


@dataclass(frozen=True)
class ShareTable:
    """Table of a share for each row and column, beside a count for each row."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Effort:
    """Effort of a method: attempts, tokens, and records a minute where the time is known."""

    accepted: int
    attempts: int
    tokens: int
    pace: float | None


@dataclass(frozen=True)
class Page:
    """Contents of the page: `view` is what the template shows, `data` what the script draws."""

    view: Mapping[str, Any]
    data: Mapping[str, Any]


def build(
    material: Material,
    real: Corpus,
    rows: Rows,
    choices: Choices,
    traces: Mapping[str, Sequence[Trace]] = MappingProxyType({}),
) -> Page:
    """Gathers everything the page has to show, with the `traces` of a few records by method. No
    text gets into it but by way of `Texts`, or as the tokens of a trace; the categories of columns
    are masked as they are."""
    texts = Texts(choices.masked)
    looks = figures.styles([method.name for method in material.methods])
    symbols = figures.label_symbols(_all_labels(material, real))
    points, plane = _points(material, real, rows, choices, texts)
    drawn = _figures(material, real, points, looks, symbols)
    drawn["columns"] = marginal_figures(
        material.shape, _written(material), real.texts, looks, mask if choices.masked else str
    )
    data = {
        "figures": {name: [asdict(figure) for figure in group] for name, group in drawn.items()},
        "looks": {name: asdict(look) for name, look in looks.items()},
        "pairs": _pairs(material, real, rows, choices.neighbours, texts),
        "records": {
            method.name: _records(method.run.records, choices, texts) for method in material.methods
        },
        "shown": choices.neighbours,
        "texts": texts.shown,
        "traces": [
            describe_trace(name, each) for name, several in traces.items() for each in several
        ],
    }
    view = {
        "choices": choices,
        "material": material,
        "real": real,
        "embedder": rows.embedder,
        "plane": plane,
        "looks": looks,
        "symbols": symbols,
        "traces": data["traces"],
        "titles": {name: [figure.title for figure in group] for name, group in drawn.items()},
        "verdict": verdict(material.evaluation or {}),
        "headlines": headlines(material.evaluation) if material.evaluation else [],
        "tables": measure_tables(material.evaluation) if material.evaluation else [],
        "efforts": _efforts(material),
        "rejects": _rejects(material),
        "corrections": {
            method.name: describe(method.run.correction)
            for method in material.methods
            if method.run.correction
        },
        "answers": _answers(material, real) if material.asks else None,
        "sources": _sources(material),
        "unmeasured": material.unmeasured if material.evaluation else [],
        "version": __version__,
    }
    return Page(view, data)


def render(page: Page) -> str:
    """Renders the whole file. Its policy lets the two scripts in it run and nothing else, and
    forbids every request, so that no text can do anything."""
    environment = Environment(
        loader=PackageLoader("steer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["listed"] = listed
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    folder = files("steer.report") / "templates"
    web = files("steer") / "web"
    own = [(web / "shared.js").read_text("utf-8"), (folder / "page.js").read_text("utf-8")]
    style = [(web / "shared.css").read_text("utf-8"), (folder / "page.css").read_text("utf-8")]
    scripts = {"text/javascript": get_plotlyjs(), "module": "".join(own)}
    return environment.get_template("page.html").render(
        page.view,
        data=page.data,
        style="".join(style),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts.values()],
    )


def _hash(script: str) -> str:
    """Digest of a script, as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _all_labels(material: Material, real: Corpus) -> list[str | None]:
    own = [record.label for method in material.methods for record in method.run.records]
    return [*own, *(real.labels or ())]


def _figures(
    material: Material,
    real: Corpus,
    points: Sequence[Points],
    looks: Mapping[str, Style],
    symbols: Mapping[str, str],
) -> dict[str, list[Figure]]:
    """Draws the figures, by the section they belong to."""
    drawn: dict[str, list[Figure]] = {"trade": [], "grid": []}
    if material.evaluation:
        drawn["trade"] = trade_offs(material.evaluation, looks)
        cells = {method.name: method.cell for method in material.methods if method.cell}
        if material.grid and cells:
            drawn["grid"] = figures.heat_maps(material.evaluation, material.grid, cells)
    drawn["map"] = [figures.text_map(points, looks, symbols)] if points else []
    drawn["lengths"] = figures.length_histograms(_written(material), real.texts, looks)
    return drawn


def _written(material: Material) -> dict[str, list[str]]:
    """Texts of the methods that wrote any."""
    return {method.name: method.texts for method in material.methods if method.texts}


def _points(
    material: Material, real: Corpus, rows: Rows, choices: Choices, texts: Texts
) -> tuple[list[Points], Plane | None]:
    """Finds a place on the plane for at most `choices.points` texts of each set; nothing where
    there are too few texts."""
    labels: dict[str, Sequence[str | None]] = {
        method.name: [record.label for record in method.run.records] for method in material.methods
    }
    labels[REAL] = real.labels or (None,) * len(real.texts)
    written = {method.name: method.texts for method in material.methods} | {REAL: [*real.texts]}
    most = min(choices.points, MAPPED_TEXTS // len(written))
    picked = {
        name: _sample(len(those), most, choices.seed, "map", name)
        for name, those in written.items()
    }
    chosen = np.concatenate([rows.by_set[name][picked[name]] for name in written])
    plane = project(chosen, derive(choices.seed, "map") % 2**32)
    if plane is None:
        return [], None
    ends = np.cumsum([len(picked[name]) for name in written])
    points = [
        Points(
            name,
            place,
            [texts.add(written[name][i]) for i in picked[name]],
            [labels[name][i] for i in picked[name]],
        )
        for name, place in zip(written, np.split(plane.points, ends[:-1]), strict=True)
    ]
    return points, plane


def _sample(size: int, count: int, seed: int, *what: str) -> list[int]:
    """Draws at most `count` of `size` numbers at random, in their order."""
    order = np.random.default_rng(derive(seed, *what)).permutation(size)
    return sorted(order[:count].tolist())


def _pairs(
    material: Material, real: Corpus, rows: Rows, count: int, texts: Texts
) -> list[dict[str, Any]]:
    records = {method.name: method.run.records for method in material.methods}
    pairs = closest_pairs(records, rows.by_set, real.texts, rows.by_set[REAL], count)
    return [
        {
            "method": pair.method,
            "id": pair.record.id,
            "cosine": round(pair.cosine, 3),
            "run": pair.run,
            "texts": [texts.add(pair.record.text), texts.add(pair.real)],
            "marks": [
                shared_words(pair.record.text, pair.real),
                shared_words(pair.real, pair.record.text),
            ],
        }
        for pair in pairs
    ]


def _records(records: Sequence[Record], choices: Choices, texts: Texts) -> list[dict[str, Any]]:
    picked = _sample(len(records), choices.records, choices.seed, "records")
    return [_record(records[i], texts) for i in picked]


def _record(record: Record, texts: Texts) -> dict[str, Any]:
    """A record to read; `asked` is the turn that it answers, where it is an answer in a chat."""
    shown = {"id": record.id, "label": record.label, "text": texts.add(record.text)}
    return shown | ({"asked": texts.add(record.turns[-1][1])} if record.turns else {})


def _efforts(material: Material) -> dict[str, Effort]:
    return {
        method.name: Effort(
            len(method.run.records),
            method.attempts,
            method.tokens,
            60 * len(method.run.records) / method.seconds if method.seconds else None,
        )
        for method in material.methods
    }


def _rejects(material: Material) -> ShareTable:
    """Computes the share of each method's attempts that were rejected, by reason, frequent ones
    first."""
    counts = {method.name: method.run.reasons for method in material.methods}
    attempts = {method.name: method.attempts for method in material.methods}
    shares = {
        reason: sum(each.get(reason, 0) / attempts[name] for name, each in counts.items())
        for reason in sorted({reason for each in counts.values() for reason in each})
    }
    reasons = tuple(sorted(shares, key=lambda reason: -shares[reason]))
    rows = {
        name: tuple(each.get(reason, 0) / attempts[name] for reason in reasons)
        for name, each in counts.items()
    }
    return ShareTable(reasons, rows, attempts)


def _answers(material: Material, real: Corpus) -> ShareTable:
    """Counts how often each letter is the answer, of the texts that are well-formed questions."""
    sets = {method.name: method.texts for method in material.methods} | {REAL: [*real.texts]}
    shares = {name: answer_shares(texts) for name, texts in sets.items()}
    letters = sorted({letter for _, balance in shares.values() for letter in balance})
    return ShareTable(
        tuple(letters),
        {
            name: tuple(balance.get(letter, 0.0) for letter in letters)
            for name, (_, balance) in shares.items()
        },
        {name: count for name, (count, _) in shares.items()},
    )


def _sources(material: Material) -> dict[str, list[str]]:
    """Sources that the runs read, with a name for each different one."""
    runs = [method.run for method in material.methods]
    values = {
        "base model": [run.sources.base for run in runs],
        "base model's fingerprint": [run.sources.model_fingerprint for run in runs],
        "adapter's fingerprint": [run.sources.adapter_fingerprint for run in runs],
        "engine": [run.sources.engine for run in runs],
        "prompt": [run.sources.prompt for run in runs],
        "real texts of the runs": [
            f"{run.sources.real} ({run.sources.data_fingerprint})" for run in runs
        ],
        "runs written by": [f"steer {run.version}" for run in runs],
    }
    return {name: list(dict.fromkeys(each)) for name, each in values.items()}

"""Figures as Plotly's JSON. A colour "@name" stands for the page's CSS variable "--name"."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from steer.data.words import length_bins, lengths
from steer.evaluation.table import show
from steer.report.material import REAL
from steer.report.tables import Estimates, best_names, goodness, real_row, value_of

COLOURS = 8
SHAPES = ("circle", "square", "diamond", "triangle-up")
FRAMED = 3
"""Cells of a heat map that may share the first place; more are no news."""

VISIBLE = 8
"""Methods that the map shows until others are asked for."""

MAPPED = (
    "summary",
    "auroc",
    "nonsense",
    "three_grams",
    "three_grams_equal_words",
    "mauve",
    "fidelity_score",
    "diversity_score",
    "coherence_score",
    "non_copying_score",
)

Values = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """Plotly's traces and layout, and the title that the page sets above them."""

    title: str
    data: list[Values]
    layout: Values


@dataclass(frozen=True)
class Style:
    """Look of a set of texts, everywhere; the colour is a number, None for the real texts."""

    colour: int | None = None
    shape: str = "star"

    @property
    def token(self) -> str:
        return "@real" if self.colour is None else f"@c{self.colour}"


@dataclass(frozen=True)
class Points:
    """A set of texts on the map: positions (texts, 2), numbers of the texts, and labels."""

    name: str
    places: np.ndarray
    texts: Sequence[int]
    labels: Sequence[str | None]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Gives a colour to each name; when they are used up, the same ones in another shape."""
    looks = {
        name: Style(i % COLOURS, SHAPES[i // COLOURS % len(SHAPES)]) for i, name in enumerate(names)
    }
    return looks | {REAL: Style()}


def heat_maps(
    evaluation: Mapping[str, Any],
    grid: Mapping[str, str],
    cells: Mapping[str, Mapping[str, float]],
) -> list[Figure]:
    """Draws a figure for each of `MAPPED` that was measured; `cells` are the places by method."""
    columns = {column["key"]: column for column in evaluation["columns"]}
    rows = [row for row in evaluation["rows"] if row["name"] in cells]
    ceiling = real_row(evaluation["rows"])
    return [
        _heat_map(columns[key], grid, cells, rows, ceiling)
        for key in MAPPED
        if key in columns and any(value_of(row, key) is not None for row in rows)
    ]


def _heat_map(
    column: Mapping[str, str],
    grid: Mapping[str, str],
    cells: Mapping[str, Mapping[str, float]],
    rows: Sequence[Estimates],
    ceiling: Estimates,
) -> Figure:
    key = column["key"]
    xs, ys = (sorted({cell[grid[axis]] for cell in cells.values()}) for axis in ("x", "y"))
    colour: list[list[float | None]] = [[None] * len(xs) for _ in ys]
    text = [[""] * len(xs) for _ in ys]
    real = value_of(ceiling, key)
    best = best_names(column, [*rows, *([ceiling] if ceiling else [])])
    frames = []
    for row in rows:
        place, value = cells[row["name"]], value_of(row, key)
        i, j = xs.index(place[grid["x"]]), ys.index(place[grid["y"]])
        if value is not None:
            colour[j][i] = goodness(column["aim"], value, real)
            text[j][i] = show(key, value).removeprefix("0")
        if row["name"] in best and len(best) <= FRAMED:
            frames.append(_frame(i, j))
    beside = "" if real is None else f" (real: {show(key, real)})"
    trace = _cells(grid, xs, ys, {"z": colour, "text": text})
    axes = {
        f"{axis}axis": {"title": {"text": grid[axis]}, "type": "category", "showgrid": False}
        for axis in ("x", "y")
    }
    return Figure(f"{column['title']}{beside}", [trace], axes | {"shapes": frames})


def _cells(
    grid: Mapping[str, str], xs: Sequence[float], ys: Sequence[float], shown: Values
) -> Values:
    """Draws the cells of a heat map, with what is `shown` in them."""
    return shown | {
        "type": "heatmap",
        "x": [f"{x:g}" for x in xs],
        "y": [f"{y:g}" for y in ys],
        "texttemplate": "%{text}",
        "colorscale": "Cividis",
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": f"{grid['x']} %{{x}}, {grid['y']} %{{y}}: %{{text}}<extra></extra>",
    }


def _frame(i: int, j: int) -> Values:
    """Draws a frame around a cell of a heat map."""
    return {
        "type": "rect",
        "x0": i - 0.5,
        "x1": i + 0.5,
        "y0": j - 0.5,
        "y1": j + 0.5,
        "line": {"color": "@best", "width": 3},
    }


def label_symbols(labels: Iterable[str | None]) -> dict[str, str]:
    """Symbols of the labels on the map."""
    names = sorted({label for label in labels if label})
    return {name: SHAPES[i % len(SHAPES)] for i, name in enumerate(names)}


def text_map(
    sets: Sequence[Points], looks: Mapping[str, Style], symbols: Mapping[str, str]
) -> Figure:
    """Draws every text as a point, the real ones beneath the others. The axes have no meaning
    of their own."""
    ordered = sorted(sets, key=lambda each: each.name != REAL)
    clouds = [
        _cloud(each, looks[each.name], symbols, i <= VISIBLE) for i, each in enumerate(ordered)
    ]
    layout = {
        "xaxis": {"showticklabels": False},
        "yaxis": {"showticklabels": False},
        "showlegend": True,
        "hovermode": "closest",
    }
    return Figure("Map of the texts", clouds, layout)


def _cloud(points: Points, look: Style, symbols: Mapping[str, str], visible: bool) -> Values:
    return {
        "type": "scatter",
        "name": points.name,
        "mode": "markers",
        "visible": True if visible else "legendonly",
        "x": points.places[:, 0].round(4).tolist(),
        "y": points.places[:, 1].round(4).tolist(),
        "customdata": list(points.texts),
        "meta": [label or "" for label in points.labels],
        "marker": {
            "size": 7,
            "opacity": 0.5 if look.colour is None else 0.75,
            "color": look.token,
            "symbol": [symbols.get(label or "", "circle") for label in points.labels],
        },
    }


def length_histograms(
    texts: Mapping[str, Sequence[str]], real: Sequence[str], looks: Mapping[str, Style]
) -> list[Figure]:
    """Draws a figure for each set: the share of its texts by their number of words, before the same
    of the real texts."""
    words = {name: lengths(each) for name, each in {**texts, REAL: real}.items()}
    edges = length_bins(list(words.values()))
    shares = {name: np.histogram(each, edges)[0] / len(each) for name, each in words.items()}
    tallest = min(1.0, 1.05 * max(float(share.max()) for share in shares.values()))
    # The last bin has all longer texts: it is drawn as wide as the others, not as far as it goes.
    edges[-1] = edges[-2] + edges[1] - edges[0]
    return [
        _histogram(name, edges, shares[name], shares[REAL], looks[name], tallest) for name in texts
    ]


def bars_over_real(
    name: str, shared: Mapping[str, Any], own: np.ndarray, real: np.ndarray, look: Style
) -> list[dict[str, Any]]:
    """Draws the shares `own` of a method as bars, and those of the real texts as an outline;
    `shared` has the places and what each stands for."""
    bars = {
        **shared,
        "type": "bar",
        "name": name,
        "y": own.round(4).tolist(),
        "textposition": "none",
        "marker": {"color": look.token},
        "hovertemplate": "%{text}: %{y:.1%}<extra></extra>",
    }
    outline = {
        **shared,
        "type": "scatter",
        "name": REAL,
        "y": real.round(4).tolist(),
        "mode": "lines",
        "line": {"shape": "hvh", "color": "@real", "width": 2},
        "hoverinfo": "skip",
    }
    return [bars, outline]


def _histogram(
    name: str, edges: np.ndarray, own: np.ndarray, real: np.ndarray, look: Style, tallest: float
) -> Figure:
    spans = [f"{low} to {high - 1} words" for low, high in pairwise(edges)]
    spans[-1] = f"{edges[-2]} words or more"
    shared = {"x": ((edges[:-1] + edges[1:] - 1) / 2).tolist(), "text": spans}
    marks = bars_over_real(name, shared, own, real, look)
    layout = {
        "bargap": 0.08,
        "xaxis": {"range": [int(edges[0]) - 0.5, int(edges[-1]) - 0.5], "showgrid": False},
        "yaxis": {"tickformat": ".0%", "range": [0, tallest], "nticks": 4},
    }
    return Figure(name, marks, layout)

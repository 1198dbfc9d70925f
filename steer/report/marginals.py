"""Small multiples of a report: what each column of records that are objects holds, beside the real
ones."""

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from steer.evaluation.marginals import categories, columns, numbers
from steer.evaluation.table import NUMBER
from steer.report.figures import Figure, Style, bars_over_real
from steer.report.material import REAL
from steer.shapes import Shape

BINS = 20
"""Bars of a column of numbers, at most."""
SHOWN = 12
"""Categories that have a bar of their own: the most frequent of the real ones, then of the rest."""

_NAMED, _LETTERS = 6, 14
_OTHERS = "all others"


@dataclass(frozen=True)
class Bars:
    """Bars of a column: the name of each, and by set of texts the share of each, (bars,). The axis
    has a tick at each of `ticks`."""

    names: tuple[str, ...]
    shares: Mapping[str, np.ndarray]
    ticks: Mapping[float, str]


def marginal_figures(
    shape: Shape | None,
    texts: Mapping[str, Sequence[str]],
    real: Sequence[str],
    looks: Mapping[str, Style],
    hide: Callable[[str], str],
) -> list[Figure]:
    """Draws a figure for each column of numbers or categories and each set: bars are the set's, the
    line is the real texts'. Categories, which are texts, are shown as `hide` gives them."""
    sets = {**texts, REAL: real}
    drawn = []
    for column, kind in columns(shape).items():
        if kind == NUMBER:
            bars = number_bars({name: numbers(each, column) for name, each in sets.items()})
        else:
            read = {name: categories(each, column) for name, each in sets.items()}
            bars = category_bars(read, hide)
        if bars.names:
            drawn += [_figure(column, name, bars, looks[name], len(texts) > 1) for name in texts]
    return drawn


def number_bars(sets: Mapping[str, np.ndarray]) -> Bars:
    """Sorts numbers into equally wide bars, whole ones of few values into a bar each; none where
    there are no numbers, or they lie too far apart. Shares are of all texts, also those without a
    number (NaN)."""
    there = {name: each[np.isfinite(each)] for name, each in sets.items()}
    together = np.concatenate([*there.values()])
    low, high = (float(edge(together)) for edge in (np.min, np.max)) if len(together) else (0, 0)
    if not len(together) or not np.isfinite(high - low):
        return Bars((), {}, {})
    whole = bool((together == together.round()).all()) and high - low < BINS
    if whole:
        edges = np.arange(low, high + 2) - 0.5
        names = [f"{value:g}" for value in np.arange(low, high + 1)]
    else:
        edges = np.histogram_bin_edges(together, BINS)
        names = [f"{one:.4g} to {other:.4g}" for one, other in pairwise(edges)]
    shares = {
        name: np.histogram(each, edges)[0] / max(1, len(sets[name])) for name, each in there.items()
    }
    some = sorted({0, (len(names) - 1) // 2, len(names) - 1})
    if whole:
        ticks = {float(place): names[place] for place in some}
    else:  # at the edges of bars
        ticks = {place - 0.5: f"{edges[place]:.3g}" for place in (0, BINS // 2, BINS)}
    return Bars(tuple(names), shares, ticks)


def category_bars(sets: Mapping[str, Sequence[str]], hide: Callable[[str], str]) -> Bars:
    """Counts categories, a bar each, the most frequent of the real ones first; of many the rest
    share one."""
    counts = {name: Counter(each) for name, each in sets.items()}
    together = sum(counts.values(), Counter())
    order = sorted(together, key=lambda name: (-counts[REAL][name], -together[name], name))
    own, rest = order[:SHOWN], order[SHOWN:]
    shares = {
        name: np.array(
            [count[each] for each in own] + ([sum(count[each] for each in rest)] if rest else [])
        )
        / max(1, count.total())
        for name, count in counts.items()
    }
    names = (*(hide(name) for name in own), *([_OTHERS] if rest else []))
    few = names if len(names) <= _NAMED else names[:1]
    return Bars(names, shares, {float(place): _cut(name) for place, name in enumerate(few)})


def _figure(column: str, name: str, bars: Bars, look: Style, several: bool) -> Figure:
    tallest = max(float(share.max()) for share in bars.shares.values())
    shared = {
        "x": list(range(len(bars.names))),
        "text": [html.escape(each, quote=False) for each in bars.names],  # Plotly reads tags
    }
    marks = bars_over_real(name, shared, bars.shares[name], bars.shares[REAL], look)
    layout = {
        "bargap": 0.08,
        "xaxis": {
            "range": [-0.5, len(bars.names) - 0.5],
            "showgrid": False,
            "tickvals": list(bars.ticks),
            "ticktext": [html.escape(each, quote=False) for each in bars.ticks.values()],
        },
        "yaxis": {"tickformat": ".0%", "range": [0, min(1.0, 1.05 * tallest)], "nticks": 4},
    }
    return Figure(f"{column}, {name}" if several else column, marks, layout)


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"

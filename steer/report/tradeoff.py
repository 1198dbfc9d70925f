"""Trade-off of one score against another: the figure that shows what each method gives up for
what."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from steer.evaluation.summary import pareto_front
from steer.report.figures import Figure, Style, Values
from steer.report.material import REAL
from steer.report.tables import Estimates, is_clipped, value_of

TRADES = (("diversity_score", "coherence_score"), ("diversity_score", "fidelity_score"))
LABELLED = 12
"""Methods up to which all points are named; of more only those on the front are."""

PLOT = (440, 340)
"""Pixels of a trade-off's plot on a wide screen, about."""

CLASH = 250.0
"""Square pixels of other names that a name may cover."""

SIDES = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}

Box = tuple[float, float, float, float]


def trade_offs(evaluation: Mapping[str, Any], looks: Mapping[str, Style]) -> list[Figure]:
    """Draws a figure for each pair of scores that was measured, of at least two methods."""
    columns = {column["key"]: column for column in evaluation["columns"]}
    most = 1.0 if is_clipped(evaluation) else inf
    made = []
    for x, y in TRADES:
        rows = [
            row
            for row in evaluation["rows"]
            if value_of(row, x) is not None and value_of(row, y) is not None
        ]
        if len([row for row in rows if row["name"] != REAL]) > 1:
            titles = columns[x]["title"], columns[y]["title"]
            made.append(_trade_off(*titles, x, y, rows, looks, most))
    return made


def _trade_off(
    x_title: str,
    y_title: str,
    x: str,
    y: str,
    rows: Sequence[Estimates],
    looks: Mapping[str, Style],
    most: float,
) -> Figure:
    methods = {
        str(row["name"]): (float(row[x]["value"]), float(row[y]["value"]))
        for row in rows
        if row["name"] != REAL
    }
    front = sorted(pareto_front(methods), key=lambda name: methods[name])  # from left to right
    x_range, y_range = _range(rows, x, most), _range(rows, y, most)
    few = len(methods) <= LABELLED
    named = list(methods) if few else front
    sides = _name_sides(rows, [*named, REAL], x, y, x_range, y_range)
    traces = [_front_line([methods[name] for name in front])]
    for row in rows:
        name = str(row["name"])
        first = name in front or name == REAL
        traces.append(_point(row, x, y, looks[name], first, sides.get(name, "")))
    layout = {
        "xaxis": {"title": {"text": f"{x_title} (right is better)"}, "range": x_range},
        "yaxis": {"title": {"text": f"{y_title} (up is better)"}, "range": y_range},
        "meta": {"few": few},
    }
    return Figure(f"{y_title} against {x_title}", traces, layout)


def _front_line(places: Sequence[tuple[float, float]]) -> Values:
    return {
        "type": "scatter",
        "name": "Pareto front",
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "mode": "lines",
        "line": {"shape": "vh", "dash": "dot", "width": 1.5, "color": "@muted"},
        "hoverinfo": "skip",
    }


def _point(row: Estimates, x: str, y: str, look: Style, first: bool, side: str) -> Values:
    """Draws a method, filled if it is `first`; its name stands at `side`, if any."""
    return {
        "type": "scatter",
        "name": row["name"],
        "x": [row[x]["value"]],
        "y": [row[y]["value"]],
        "error_x": _error(row[x], look),
        "error_y": _error(row[y], look),
        "mode": "markers+text" if side else "markers",
        "text": [row["name"]],
        "textposition": side or "top center",
        "cliponaxis": False,
        "marker": {
            "symbol": look.shape if first else f"{look.shape}-open",
            "size": 13,
            "color": look.token,
            "line": {"width": 2, "color": look.token},
        },
        "hovertemplate": "%{text}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
    }


def _error(estimate: Mapping[str, Any], look: Style) -> Values:
    """Draws the interval around a point; not shown where there is none."""
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - value)],
        "arrayminus": [max(0.0, value - low)],
        "thickness": 1,
        "width": 3,
        "color": look.token,
    }


def _range(rows: Sequence[Estimates], key: str, most: float) -> list[float]:
    """Range of the values, with room for a name at each side, within 0 and `most`, which no score
    can leave."""
    values = [float(row[key]["value"]) for row in rows]
    room = 0.14 * max(max(values) - min(values), 0.05)
    return [max(0.0, min(values) - room), min(most, max(values) + room)]


def _name_sides(
    rows: Sequence[Estimates],
    named: Sequence[str],
    x: str,
    y: str,
    x_range: Sequence[float],
    y_range: Sequence[float],
) -> dict[str, str]:
    """Finds for each of `named` the side of its point for its name, in a plot of `PLOT` pixels.
    There the name overlaps least with points, their intervals and other names; none where names
    would clash."""
    crosses = {
        str(row["name"]): (_pixels(row[x], x_range, PLOT[0]), _pixels(row[y], y_range, PLOT[1]))
        for row in rows
    }
    taken = [box for across, up in crosses.values() for box in _cross_boxes(across, up)]
    names: list[Box] = []
    sides = {}
    for name in sorted(set(named) & set(crosses), key=lambda name: crosses[name]):
        across, up = crosses[name]
        boxes = {side: _name_box(name, (across[0], up[0]), SIDES[side]) for side in SIDES}
        cost = {
            side: sum(_overlap(box, other) for other in (*taken, *names)) + 4 * _outside(box)
            for side, box in boxes.items()
        }
        side = min(SIDES, key=lambda side: cost[side])
        if sum(_overlap(boxes[side], other) for other in names) <= CLASH:
            sides[name] = side
            names.append(boxes[side])
    return sides


def _pixels(
    estimate: Mapping[str, Any], ends: Sequence[float], size: int
) -> tuple[float, float, float]:
    """Converts a value and its interval to pixels from the lower end of an axis."""
    value = float(estimate["value"])
    bounds = (value, estimate.get("low"), estimate.get("high"))
    scaled = [
        ((value if bound is None else bound) - ends[0]) / (ends[1] - ends[0]) * size
        for bound in bounds
    ]
    return scaled[0], scaled[1], scaled[2]


def _cross_boxes(
    across: tuple[float, float, float], up: tuple[float, float, float]
) -> tuple[Box, Box, Box]:
    """Boxes that a point and the two lines of its intervals cover."""
    (x, left, right), (y, bottom, top) = across, up
    return (
        (x - 9, y - 9, x + 9, y + 9),
        (left, y - 2, right, y + 2),
        (x - 2, bottom, x + 2, top),
    )


def _name_box(name: str, centre: tuple[float, float], shift: tuple[float, float]) -> Box:
    """Box of a name: left, bottom, right and top of a name, of about 7.5 by 16 pixels a
    character."""
    width = 7.5 * len(name)
    x = centre[0] + shift[0] * (width / 2 + 10)
    y = centre[1] + shift[1] * 18
    return x - width / 2, y - 8, x + width / 2, y + 8


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, (0, 0, *PLOT))

"""Pictures of the curves, the same file each time for the same results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One curve: the key of the x axis in its points, and what the axes say."""

    name: str
    x: str
    title: str
    x_label: str
    y: str = "tokens_per_second"
    y_label: str = "tokens a second"
    log: bool = True


PICTURES = (
    Picture("rows", "rows", "Rows that decode together", "rows"),
    Picture("panel_length", "panel_tokens", "Length of a panel", "tokens in a panel", log=False),
    Picture("panels", "panels", "Panels that 64 rows share", "panels"),
    Picture("record_length", "tokens", "Length of a record", "tokens a record"),
    Picture(
        "run_length",
        "records",
        "The round loop alone (stub engine)",
        "records in the run",
        y="milliseconds",
        y_label="milliseconds a record",
        log=False,
    ),
)


def draw(picture: Picture, points: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws one curve: a line for each side."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    sides = dict.fromkeys(point.get("side", "") for point in points)
    for side in sides:
        own = [point for point in points if point.get("side", "") == side]
        x, y = ([point[key] for point in own] for key in (picture.x, picture.y))
        axes.plot(x, y, marker="o", markersize=4, label=side)
    axes.set(title=picture.title, xlabel=picture.x_label, ylabel=picture.y_label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if picture.log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    if any(sides):
        axes.legend()
    draw_picture(figure, path)


def draw_picture(figure: Figure, path: Path) -> None:
    """Writes a picture without a date and with fixed names: the same results give the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "steer"}):
        figure.savefig(path, metadata={"Date": None})

"""Tables and pictures of docs/performance.md from the results: `python -m benchmarks.report`.

Only what stands between the two marks is replaced; the text around them is written by hand.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.levers import AS_IT_IS
from benchmarks.pairs import Ratio
from benchmarks.suite import MEANINGS, TARGETS, met
from steer.errors import SteerError

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


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


def main(results: Path = ROOT / "benchmarks" / "results", docs: Path = ROOT / "docs") -> int:
    """Rewrites the section; returns the exit code."""
    try:
        parts = [
            *(_section(results / f"{device}.json") for device in ("cpu", "gpu")),
            _levers(results / "levers-cpu.json"),
            _ideas(results / "ideas-cpu.json"),
            *(_curves(results / f"curves-{device}.json", docs) for device in ("cpu", "gpu")),
        ]
        replace_section(docs / "performance.md", "\n\n".join(part for part in parts if part))
    except SteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _section(path: Path) -> str:
    """The tables of one results file; empty when there is none."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text("utf-8"))
    parts = [f"### {_where(found)}", _ratios(found), _speeds(found["measurements"])]
    parts += [f"- {name}: {note}." for name, note in found["notes"].items()]
    return "\n\n".join(part for part in parts if part)


def _where(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    what = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    return f"{what} (torch {versions['torch']}, transformers {versions['transformers']})"


def _ratios(found: dict[str, Any]) -> str:
    rows = []
    for name in (key for key in found if _is_ratio(found[key])):
        ratio = Ratio(**found[name])
        sign, target = TARGETS.get(name, ("", ""))
        mark = {True: "yes", False: "**no**", None: ""}[met(name, ratio)]
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        meaning = MEANINGS.get(name, f"`{name}`")
        rows.append([meaning, f"{ratio.median:.2f}", spread, f"{sign} {target}".strip(), mark])
    return table(["ratio", "median", "low to high", "target", "met"], rows)


def _is_ratio(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"median", "low", "high"}


def _speeds(measurements: Iterable[dict[str, Any]]) -> str:
    rows = [
        [
            row["group"],
            row["side"],
            *(str(row[name]) for name in ("rows", "records", "tokens")),
            f"{row['tokens_per_second']['median']:.1f}",
            f"{row['limit_memory']:.0f} / {row['limit']:.0f}" if "limit" in row else "",
        ]
        for row in measurements
        if "tokens_per_second" in row
    ]
    limited = any(row[-1] for row in rows)
    head = ["group", "side", "rows", "records", "tokens each", "tokens a second"]
    if limited:
        return table([*head, "limit: memory / and compute"], rows)
    return table(head, [row[:-1] for row in rows])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _levers(path: Path) -> str:
    """Steps without each lever, and where their time goes; empty when there is no such file."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text("utf-8"))
    sides = [(side, rows) for side in ("plain", "steer") for rows in (1, 4, 64)]
    points = found["steps"] + found["free"]
    steps = {(p["off"], p["side"], p["rows"]): p["milliseconds"] for p in points}
    whole = {side: steps[AS_IT_IS, *side] for side in sides}

    def lines(points: Sequence[dict[str, Any]]) -> list[list[str]]:
        names = dict.fromkeys(point["off"] for point in points)
        return [
            [name, *(_change(steps[name, *side], whole[side]) for side in sides)] for name in names
        ]

    shown = [f"{side}, {rows} rows" for side, rows in sides]
    parts = [key for key in found["profiles"][0] if key not in ("levers", "side", "rows")]
    profiles = [
        [f"{p['levers']}: {p['side']}, {p['rows']} rows", *(f"{p[part]:.1f}" for part in parts)]
        for p in found["profiles"]
    ]
    return "\n\n".join(
        [
            f"### Levers: {_where(found)}",
            "Milliseconds of a decoding step without a lever, and how many times that of the engine"
            " as it is:",
            table(["without", *shown], lines(found["steps"])),
            "The same if a part of the work took no time (measured by leaving it out, which gives "
            "wrong tokens):",
            table(["if free", *shown], lines(found["free"])),
            "Milliseconds a token by what they are for, over calls of "
            f"{found['settings']['profiled']} tokens with the prefill of their contexts, under a "
            "profiler, which slows small operations down:",
            table(["levers", *parts], profiles),
        ]
    )


def _ideas(path: Path) -> str:
    """What skipping and speculation would give; empty when there is no such file."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text("utf-8"))
    single, overlap, same = (found["shares"][name] for name in ("single", "overlap", "same"))
    times = ("steer", "draft", "check")
    rows = [
        [
            *(str(point[name]) for name in ("rows", "drafted")),
            *(f"{point[name]:.1f}" for name in times),
            *(f"{point[name]:.2f}" for name in ("gain", "gain_at_most")),
        ]
        for point in found["speculation"]
    ]
    return "\n\n".join(
        [
            f"### Ideas: {_where(found)}",
            f"One token is plausible at {single:.1%} of the steps. The distributions of STEER and "
            f"of its expert overlap by {overlap:.3f} of a step's probability; both draw the same "
            f"token from the same number at {same:.1%} of the steps. Speculation, in milliseconds, "
            "and how many times as fast it would be:",
            table(
                [
                    "rows",
                    "tokens drafted",
                    "a step of STEER",
                    "a step of the expert",
                    "a pass of the others",
                    "gain",
                    "with the overlap",
                ],
                rows,
            ),
        ]
    )


def _change(value: float, whole: float) -> str:
    return f"{value:.1f} ({value / whole:.2f})"


def _curves(path: Path, docs: Path) -> str:
    """Draws the pictures of one file of curves; returns the lines that show them."""
    if not path.exists():
        return ""
    found = json.loads(path.read_text("utf-8"))
    lines = [f"### Curves: {_where(found)}"]
    for picture in PICTURES:
        name = f"pictures/{path.stem}-{picture.name}.svg"
        _draw(picture, found[picture.name], docs / name)
        lines.append(f"![{picture.title}]({name})")
    return "\n\n".join(lines)


def _draw(picture: Picture, points: Sequence[dict[str, Any]], path: Path) -> None:
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


def replace_section(path: Path, section: str) -> None:
    """Puts `section` between the two marks in the file. Raises `SteerError` without them."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SteerError(f"{path} has no lines {BEGIN} and {END}; put them where the tables go")
    path.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())

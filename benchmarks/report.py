"""Tables and pictures of docs/performance.md from the results: `python -m benchmarks.report`.

Only what stands between two marks is replaced; the text around them is written by hand.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.levers import AS_IT_IS
from benchmarks.pairs import Ratio
from benchmarks.pictures import PICTURES, Picture, draw
from benchmarks.suite import in_words, met, target
from benchmarks.table import ADDED, is_ratio
from steer.errors import SteerError

ROOT = Path(__file__).parent.parent
SECTIONS = ("expect", "compare", "settings", "tables", "tried")
RECORDS, TOKENS = 1000, 32  # of the dataset whose time is told
TIMED = {
    "STEER, 64 rows": ("end to end", "steer"),
    "our plain sampling, 64 rows": ("64 rows", "plain"),
    "Transformers `generate` (PEFT), 64 rows": ("64 rows", "transformers"),
    "Transformers `guidance_scale` (PEFT), 16 rows": ("16 rows", "transformers cfg"),
    "the published procedure": ("end to end", "published"),
}


@dataclass(frozen=True)
class Results:
    """Results of one file."""

    path: Path
    found: dict[str, Any]

    @classmethod
    def all(cls, folder: Path, what: str = "") -> "list[Results]":
        """Opens a file for each kind of machine; `what` as in `results_file`."""
        prefix = f"{what}-" if what else ""
        paths = [*folder.glob(f"{prefix}cpu.json"), *sorted(folder.glob(f"{prefix}cpu-*.json"))]
        paths += folder.glob(f"{prefix}gpu.json")
        return [cls(path, json.loads(path.read_text("utf-8"))) for path in paths]

    @property
    def can(self) -> str:
        """Abilities of the processor, or the GPU's name."""
        if gpu := self.found.get("machine", {}).get("gpu"):
            return str(gpu)
        capability = self.path.stem.partition("cpu")[2].strip("-").replace("-", " ")
        short = "bf16" if self.found.get("machine", {}).get("dtype") == "bfloat16" else "fp32"
        if self.found.get("machine", {}).get("held"):
            return f"held to {capability.removesuffix(' held').upper()}, {short}"
        return f"{capability.upper()}, {short}" if capability else "bf16 in hardware"

    def rate(self, group: str, side: str) -> float | None:
        """Finds the median tokens a second of a side; None if it was not measured."""
        for row in self.found["measurements"]:
            if (row["group"], row["side"]) == (group, side):
                return float(row["tokens_per_second"]["median"])
        return None

    def memory(self, kind: str) -> str:
        """Finds the highest peak of a kind of run, in GiB."""
        rows = (row for row in self.found["measurements"] if row["group"] == "memory")
        peaks = [row["peak"] for row in rows if row["side"] == kind]
        return f"{max(peaks) / 2**30:.2f}" if peaks else ""

    def line(self) -> str:
        """Writes the machine, the versions and the file as an item of a list."""
        machine, versions = self.found["machine"], self.found["versions"]
        minutes = self.found["settings"].get("took_minutes")
        took = f", {minutes:g} minutes" if minutes else ""
        tokens = self.found["settings"]["tokens"]
        file = f"[{self.path.name}](../benchmarks/results/{self.path.name})"
        return (
            f"- *{self.can}*: {machine['cpu']}, {machine['threads']} threads, "
            f"torch {versions['torch']},\n  transformers {versions['transformers']}, "
            f"records of {tokens} tokens{took}\n  ({file})."
        )


def main(results: Path = ROOT / "benchmarks" / "results", docs: Path = ROOT / "docs") -> int:
    """Rewrites the sections; returns the exit code."""
    try:
        runs, curves = Results.all(results), Results.all(results, "curves")
        whole = [run for run in runs if "measurements" in run.found]
        replace_sections(
            docs / "performance.md",
            {
                "expect": _expect(whole),
                "compare": _ratios(runs),
                "settings": _curves(curves),
                "tables": _tables(whole, Results.all(results, "levers"), curves, docs),
                "tried": _tried(results),
            },
        )
    except SteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _expect(runs: Sequence[Results]) -> str:
    """Writes tokens a second and the time of a dataset, a column a machine; then the machines."""
    rows = [[name, *(_expected(run.rate(*side)) for run in runs)] for name, side in TIMED.items()]
    rows.append(["peak memory of STEER, 64 rows, GiB", *(run.memory("steer") for run in runs)])
    head = [f"tokens a second (minutes for {RECORDS:,} records of {TOKENS} tokens)"]
    return "\n\n".join(
        [table([*head, *(run.can for run in runs)], rows), "\n".join(run.line() for run in runs)]
    )


def _expected(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0f} ({RECORDS * TOKENS / rate / 60:.1f})"


def _ratios(runs: Sequence[Results]) -> str:
    """Writes every ratio, a column a machine: median, lowest and highest, and a missed target."""
    names = {name: None for run in runs for name in run.found if is_ratio(run.found[name])}
    rows = [
        [
            in_words(name),
            " ".join(map(str, target(name) or ())),
            *(_ratio(name, run.found.get(name)) for run in runs),
        ]
        for name in names
    ]
    lists = [found for run in runs if (found := _by_others(run))]
    if lists:
        lists.insert(0, "Not by `make bench`:")
    return "\n\n".join([table(["ratio", "target", *(run.can for run in runs)], rows), *lists])


def _ratio(name: str, value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    ratio = Ratio(**value)
    missed = ", **missed**" if met(name, ratio) is False else ""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f}){missed}"


def _by_others(run: Results) -> str:
    """Says of each ratio that another command than `make bench` measured by which, where, and how
    long both sides took: a line of a list for each measurement."""
    lines = []
    for name, entry in run.found.get(ADDED, {}).items():
        machine, seconds = entry["machine"], entry.get("seconds", {})
        parts = [f"*{run.can}, {name}*: `{entry['command']}`", machine["cpu"]]
        parts += [f"{machine['threads']} threads", machine["dtype"]]
        parts += [f"{side} {value['median']:.3g} s" for side, value in seconds.items()]
        parts += [entry["note"]] if "note" in entry else []
        lines.append(fill(f"- {', '.join(parts)}.", 95, subsequent_indent="  "))
    return "\n".join(lines)


def _curves(curves: Sequence[Results]) -> str:
    """Writes the points of every curve, a line a curve and side, a column a machine."""
    rows = []
    for picture in PICTURES:
        for side in ("steer", "plain", ""):
            cells = [_points(picture, side, run.found[picture.name]) for run in curves]
            if any(cells):
                rows.append([f"{picture.title}: {picture.y_label}", side, *cells])
    return table(["what grows", "side", *(run.can for run in curves)], rows)


def _points(picture: Picture, side: str, points: Sequence[Mapping[str, Any]]) -> str:
    own = [point for point in points if point.get("side", "") == side]
    if len(own) > 10:
        values = [point[picture.y] for point in own]
        middle, last = statistics.median(values), own[-1][picture.x]
        return f"median {middle:.2f}, most {max(values):.2f}, up to {last:,}"
    return ", ".join(f"{point[picture.x]}: {point[picture.y]:.0f}" for point in own)


def _tables(
    runs: Sequence[Results], levers: Sequence[Results], curves: Sequence[Results], docs: Path
) -> str:
    parts = []
    for run in runs:
        parts += [f"### Speed: {run.can}", _speeds(run.found["measurements"])]
        notes = (f"- {name}: {note}." for name, note in run.found["notes"].items())
        parts.append("\n".join(fill(note, 95, subsequent_indent="  ") for note in notes))
    parts += [part for run in levers for part in _levers(run)]
    for run in curves:
        parts += [f"### Curves: {run.can}", _pictures(run, docs)]
    return "\n\n".join(parts)


def _speeds(measurements: Iterable[dict[str, Any]]) -> str:
    rows = [
        [
            row["group"],
            row["side"],
            *(str(row[name]) for name in ("rows", "records", "tokens")),
            f"{row['tokens_per_second']['median']:.1f}",
            str(len(row["seconds"])),
            f"{row['limit_memory']:.0f} / {row['limit']:.0f}" if "limit" in row else "",
        ]
        for row in measurements
        if "tokens_per_second" in row
    ]
    head = ["group", "side", "rows", "records", "tokens each", "tokens a second", "repeats"]
    if any(row[-1] for row in rows):
        return table([*head, "limit: memory / and compute"], rows)
    return table(head, [row[:-1] for row in rows])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Writes a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _levers(run: Results) -> list[str]:
    """Writes the steps without each lever, and if a part of the work were free."""
    found = run.found
    sides = [(side, rows) for side in ("plain", "steer") for rows in found["settings"]["rows"]]
    points = found["steps"] + found["free"]
    steps = {(p["off"], p["side"], p["rows"]): p["milliseconds"] for p in points}

    def lines(points: Sequence[dict[str, Any]]) -> list[list[str]]:
        names = dict.fromkeys(point["off"] for point in points)
        return [
            [name, *(_change(steps[name, *side], steps[AS_IT_IS, *side]) for side in sides)]
            for name in names
        ]

    shown = [f"{side}, {rows} rows" for side, rows in sides]
    return [
        f"### Levers: {run.can}",
        "Milliseconds of a decoding step without a lever, and how many times that of the engine\n"
        "as it is:",
        table(["without", *shown], lines(found["steps"])),
        "The same if a part of the work took no time, which gives wrong tokens:",
        table(["if free", *shown], lines(found["free"])),
    ]


def _change(value: float, whole: float) -> str:
    return f"{value:.1f} ({value / whole:.2f})"


def _pictures(run: Results, docs: Path) -> str:
    """Draws the pictures of one file of curves; returns the lines that show them."""
    lines = []
    for picture in PICTURES:
        name = f"pictures/{run.path.stem}-{picture.name}.svg"
        draw(picture, run.found[picture.name], docs / name)
        lines.append(f"![{picture.title}]({name})")
    return "\n\n".join(lines)


def _tried(folder: Path) -> str:
    """Writes what did not pay: ideas with a command, then those that were tried by hand."""
    rows = [row for run in Results.all(folder, "ideas") for row in _ideas(run)]
    path = folder / "trials.json"
    if path.exists():
        trials = json.loads(path.read_text("utf-8"))["did_not_pay"]
        rows += [[trial["idea"], trial["outcome"]] for trial in trials]
    return table(["idea", "outcome"], rows)


def _ideas(run: Results) -> list[list[str]]:
    """Writes what skipping and speculation would give."""
    shares, speculation = run.found["shares"], run.found["speculation"]
    gains = [point["gain"] for point in speculation]
    most = max(point["gain_at_most"] for point in speculation)
    return [
        [
            "Leave out the other streams where one token is plausible",
            f"One token is plausible at {shares['single']:.1%} of the steps ({run.can}).",
        ],
        [
            "Speculative sampling: the expert drafts, the other streams check",
            f"{min(gains):.2f} to {max(gains):.2f} times as fast; {most:.2f} at most, if the whole "
            f"overlap ({shares['overlap']:.3f}) could be kept ({run.can}).",
        ],
    ]


def replace_section(path: Path, section: str, name: str = "results") -> None:
    """Puts `section` between the marks of `name` in the file. Raises `SteerError` without them."""
    replace_sections(path, {name: section})


def replace_sections(path: Path, sections: Mapping[str, str]) -> None:
    """Replaces several sections, all of them or none."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}") from None
    for name, section in sections.items():
        opening, closing = marks(name)
        before, begin, rest = text.partition(opening)
        _, end, after = rest.partition(closing)
        if not begin or not end:
            raise SteerError(f"{path} has no lines {opening} and {closing}; put them in the page")
        text = f"{before}{begin}\n\n{section}\n\n{end}{after}"
    path.write_text(text, "utf-8")


def marks(name: str) -> tuple[str, str]:
    """Makes the lines before and after a section."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


if __name__ == "__main__":
    sys.exit(main())

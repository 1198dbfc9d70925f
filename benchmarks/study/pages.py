"""Pages of the study: docs/study.json, and the tables and pictures of docs/study.md, from what was
measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from benchmarks.pictures import draw_picture
from benchmarks.report import ROOT, replace_section, table
from benchmarks.study.measure import CHARACTERS, REAL
from benchmarks.study.parts import CELLS, TASKS
from benchmarks.study.plan import CHEAP, DEFAULT, METHODS, MIN_P, NUCLEUS, STEERED
from benchmarks.study.results import Mean, Table, read, together
from benchmarks.study.selecting import CORRECTED, LIKELIEST, RANDOM, SELECTORS
from benchmarks.study.tuning import STEPS
from steer.files import write_atomic

DOCS = ROOT / "docs"
HEADINGS = {"hypotheses": "Hypotheses", "comments": "Comments", "commonsense": "Questions"}
SHOWN = {
    "auroc": "AUROC, all",
    CHARACTERS: "AUROC, characters",
    "auroc_embedding": "AUROC, embedding",
    "vendi_1": "Vendi",
    "three_grams": "3-grams",
    "nonsense": "nonsense",
    "judge_gap": "gap",
    "near_copies": "near copies",
    "summary": "summary",
}
Pairs = tuple[tuple[tuple[str, str], tuple[str, str]], ...]
SHORT = {name: name.split(":")[0] for name in METHODS} | {STEERED: "STEER"}
AGAINST = tuple(((DEFAULT, CORRECTED), (each, RANDOM)) for each in METHODS)
PAIRS: Pairs = (
    ((NUCLEUS, CORRECTED), (NUCLEUS, LIKELIEST)),
    ((DEFAULT, CORRECTED), (CHEAP, LIKELIEST)),
    ((DEFAULT, CORRECTED), (CHEAP, CORRECTED)),
    ((DEFAULT, CORRECTED), (NUCLEUS, CORRECTED)),
    ((DEFAULT, CORRECTED), (MIN_P, CORRECTED)),
    ((MIN_P, CORRECTED), (MIN_P, RANDOM)),
    ((DEFAULT, CORRECTED), (DEFAULT, RANDOM)),
    ((NUCLEUS, CORRECTED), (NUCLEUS, RANDOM)),
    ((STEERED, CORRECTED), (MIN_P, CORRECTED)),
    ((DEFAULT, CORRECTED), (STEERED, CORRECTED)),
    ((STEERED, CORRECTED), (CHEAP, RANDOM)),
    ((STEERED, CORRECTED), (STEERED, RANDOM)),
    ((STEERED, CORRECTED), (CHEAP, CORRECTED)),
    ((CHEAP, CORRECTED), (CHEAP, RANDOM)),
    ((DEFAULT, RANDOM), (CHEAP, RANDOM)),
    ((STEERED, RANDOM), (CHEAP, RANDOM)),
    ((CHEAP, LIKELIEST), (CHEAP, RANDOM)),
)
ASKED = {
    "summary": "The summary; above 0 is better.",
    CHARACTERS: "AUROC by character n-grams; below 0 is harder to detect.",
    "nonsense": "The share of nonsense.",
    "vendi_1": "The Vendi score.",
}


TRIED = {
    "tuning": "What was tuned",
    "presets": "STEER's cut, temperature and gamma",
    "defaults": "Proposals of one stream",
}


def write(work: Path) -> None:
    """Writes everything that can be written from the cells that are measured."""
    tables = {task: found for task in TASKS if (found := read(work, task))}
    values = {task: _json(found) for task, found in tables.items()}
    write_atomic(DOCS / "study.json", (json.dumps(values, indent=1) + "\n").encode())
    parts = [_detected(tables), _questions(tables)] if tables else []
    parts += [_section(task, found) for task, found in tables.items()]
    parts += [*(_tuned(work, step) for step in STEPS), _screen(work)]
    replace_section(DOCS / "study.md", "\n\n".join(part for part in parts if part))


def _json(found: Table) -> dict[str, dict[str, Any]]:
    """Nests method, then metric, then mean and interval; a metric without a value is left out."""
    return {
        name: {
            metric: mean.to_json()
            for metric in found.metrics
            if (mean := found.mean(metric, name)) is not None
        }
        for name in found.sets
    }


def _detected(tables: Mapping[str, Table]) -> str:
    """Writes the table of selectors and proposals, by how well character n-grams detect them."""
    rows = []
    for task, found in tables.items():
        for proposal in METHODS:
            names = [f"{proposal} / {selector}" for selector in SELECTORS]
            if names[0] in found.sets:
                values = [_value(found.mean(CHARACTERS, name), 3) for name in names]
                rows.append([HEADINGS[task], f"`{proposal}`", *values])
        rows.append([HEADINGS[task], REAL, _value(found.mean(CHARACTERS, REAL), 3), "", ""])
    head = ["task", "proposal", *SELECTORS]
    what = "AUROC by which logistic regression on character n-grams, which no selector reads,\n"
    what += "tells the texts from real ones (0.5: it cannot), with 95% intervals."
    return f"### Selector and proposal\n\n{what}\n\n{table(head, rows)}"


def _questions(tables: Mapping[str, Table]) -> str:
    """Writes the differences that decide what the default is."""
    against = _differences(tables, "summary", "The summary; above 0 is better.", AGAINST)
    parts = [_differences(tables, key, what, PAIRS) for key, what in ASKED.items()]
    heads = "### The default against every method as used", "### What correction does, and guidance"
    return "\n\n".join([heads[0], against, heads[1], *parts])


def _differences(tables: Mapping[str, Table], metric: str, what: str, pairs: Pairs) -> str:
    rows = []
    for (one, selector), (other, second) in pairs:
        names = f"{one} / {selector}", f"{other} / {second}"
        gains = [found.difference(metric, *names) for found in tables.values()]
        known = [gain for gain in gains if gain]
        mean = _signed(together(known) if known else None)
        ours, theirs = (f"{SHORT[p]}, {s}" for p, s in ((one, selector), (other, second)))
        rows.append([ours, theirs, *map(_signed, gains), mean])
    head = ["", "less", *(HEADINGS[task] for task in tables), "mean"]
    return f"{what}\n\n{table(head, rows)}"


def _section(task: str, found: Table) -> str:
    heading, name = HEADINGS[task], f"pictures/study-{task}.svg"
    draw_picture(_front(found), DOCS / name)
    shown = {key: title for key, title in SHOWN.items() if key in found.metrics}
    rows = [[f"`{each}`", *(_value(found.mean(key, each)) for key in shown)] for each in found.sets]
    cells = ", ".join(found.names)
    return "\n\n".join(
        [
            f"### {heading}",
            fill(f"{found.n} texts of each set and cell; cells {cells}.", 100),
            table(["proposal / selector", *shown.values()], rows),
            f"![{heading}: Vendi score and AUROC of each set]({name})",
        ]
    )


def _value(mean: Mean | None, digits: int = 2) -> str:
    if mean is None:
        return "-"
    if mean.low is None or mean.high is None:
        return f"{mean.mean:.{digits}f}"
    return f"{mean.mean:.{digits}f} ({mean.low:.{digits}f} to {mean.high:.{digits}f})"


def _signed(mean: Mean | None) -> str:
    if mean is None:
        return "-"
    if mean.low is None or mean.high is None:
        return f"{mean.mean:+.3f}"
    return f"{mean.mean:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"


def _front(found: Table) -> Figure:
    """Draws how well each set is detected over its diversity, a line from each proposal's random
    third to its corrected one."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    real = found.mean("vendi_1", REAL)
    assert real is not None
    for proposal in METHODS:
        ends = [f"{proposal} / {selector}" for selector in (RANDOM, CORRECTED)]
        if ends[0] not in found.sets:
            continue
        ends = [name for name in ends if name in found.sets]
        x = [_number(found.mean("vendi_1", name)) / real.mean for name in ends]
        y = [_number(found.mean(CHARACTERS, name)) for name in ends]
        (line,) = axes.plot(x, y, lw=0.8, alpha=0.7, label=proposal)
        axes.scatter(x[:1], y[:1], facecolors="none", edgecolors=line.get_color())
        axes.scatter(x[1:], y[1:], color=line.get_color())
    axes.scatter([1], [_number(found.mean(CHARACTERS, REAL))], marker="*", s=120, color="black")
    axes.axhline(0.5, color="grey", lw=0.8, ls=":")
    axes.set(
        xlabel="Vendi score over that of real texts",
        ylabel="AUROC by character n-grams",
        title="Open: as used; full: corrected; star: real texts",
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _number(mean: Mean | None) -> float:
    return float("nan") if mean is None else mean.mean


def _tuned(work: Path, step: str) -> str:
    """Writes what a step tried, by the mean summary of both tasks as used."""
    paths = [work / step / f"{cell.name}.json" for cell in CELLS]
    found = [json.loads(path.read_bytes()) for path in paths if path.exists()]
    if not found:
        return ""
    tried = [name for family in STEPS[step].values() for name in family]

    def summary(each: Mapping[str, Any], name: str, selector: str) -> float | None:
        return each.get(f"{name} / {selector}", {}).get("summary")

    def mean(name: str) -> float:
        return sum(summary(each, name, RANDOM) or 0 for each in found) / len(found)

    rows = [
        [
            f"`{name}`",
            *(
                "" if value is None else f"{value:.2f}"
                for selector in (RANDOM, CORRECTED)
                for value in (summary(each, name, selector) for each in found)
            ),
        ]
        for name in sorted(tried, key=mean, reverse=True)
    ]
    tasks = [HEADINGS[cell.task] for cell, path in zip(CELLS, paths, strict=True) if path.exists()]
    head = ["setting", *(f"{task}, {each}" for each in (RANDOM, CORRECTED) for task in tasks)]
    what = (
        "The summary, mean of two draws of 100, on rows that no cell reports on; the best by both\n"
    )
    what += "tasks comes first."
    return f"### {TRIED[step]}\n\n{what}\n\n{table(head, rows)}"


def _screen(work: Path) -> str:
    """Writes the weights under which real texts are likeliest, a contrast at a time."""
    rows: list[list[str]] = []
    for expert in dict.fromkeys(cell.expert for cell in CELLS):
        path = work / "weights" / f"{expert}.json"
        if path.exists():
            rows += [_screen_row(expert, each) for each in json.loads(path.read_bytes())]
    if not rows:
        return ""
    head = ["expert", "contrast", "its weight", "the expert's", "nats a token", "expert alone"]
    body = table([*head, "gain, 95% interval"], rows)
    return f"### The weights under which real texts are likeliest\n\n{body}"


def _screen_row(expert: str, found: Mapping[str, Any]) -> list[str]:
    own, *rest = found["weights"].items()
    contrast, weight = rest[0] if rest else ("none, a temperature", None)
    gain = Mean(found["expert"] - found["nats"], found["low"], found["high"])
    shown = "" if weight is None else f"{weight:+.2f}"
    nats = [f"{found[name]:.3f}" for name in ("nats", "expert")]
    return [expert, contrast, shown, f"{own[1]:+.2f}", *nats, _signed(gain)]

"""Pages of the study: docs/study.json, and the tables and pictures of docs/study.md, from what was
measured."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from benchmarks.pictures import draw_picture
from benchmarks.report import ROOT, replace_section, table
from benchmarks.study.parts import TASKS
from benchmarks.study.plan import BASELINES, DEFAULT, OURS, SEEDS, VALIDATION_SEED, chosen, reported
from benchmarks.study.results import REAL, Mean, Table, read
from steer.experiments.comparison import Comparison
from steer.files import write_atomic

DOCS = ROOT / "docs"
SHOWN = {
    "three_grams": "3-grams",
    "vendi_1": "Vendi",
    "auroc_trees": "AUROC, trees",
    "auroc_logistic": "AUROC, logistic",
    "judge_gap": "gap, sibling",
    "judge_gap_2": "gap, Gemma",
    "near_copies": "near copies",
    "authenticity": "authentic",
    "fidelity_score": "fidelity",
    "diversity_score": "diversity",
    "coherence_score": "coherence",
    "non_copying_score": "non-copying",
}
HEADINGS = {"hypotheses": "Hypotheses", "comments": "Comments", "commonsense": "Questions"}
PUBLISHED = ("steer-published",)


def write(work: Path) -> None:
    """Writes everything that can be written from the tasks that are done."""
    tables = {task: found for task in TASKS if (found := _read(work, task))}
    values = {task: _json(found, chosen(work, task).values()) for task, found in tables.items()}
    write_atomic(DOCS / "study.json", (json.dumps(values, indent=1) + "\n").encode())
    parts = [_default(work, tables)]
    parts += [_section(work, task, found) for task, found in tables.items()]
    parts += [_streams(work, tables), _weights(work), _use(work)]
    replace_section(DOCS / "study.md", "\n\n".join(part for part in parts if part))


def _read(work: Path, task: str) -> Table | None:
    folders = {seed: work / "report" / task / f"seed-{seed}" for seed in SEEDS}
    if not all((folder / "evaluation.json").exists() for folder in folders.values()):
        return None
    return read(folders, reported(work, task))


def _json(found: Table, taken: Collection[str]) -> dict[str, dict[str, Any]]:
    """Nests method, then metric, then mean and interval; a metric without a value is left out. The
    default, where it is not the setting chosen for STEER, is called steer-default."""
    names = {
        method: "steer-default" if method == DEFAULT and method not in taken else _family(method)
        for method in found.methods
    }
    return {
        names[method]: {
            metric: {key: round(value, 5) for key, value in asdict(mean).items()}
            for metric in found.values
            if (mean := found.mean(metric, method))
        }
        for method in found.methods
    }


def _family(method: str) -> str:
    """Family of a method: `nucleus:top_p=0.9` is of the family nucleus."""
    return method.partition(":")[0]


def _section(work: Path, task: str, found: Table) -> str:
    heading = HEADINGS[task]
    name = f"pictures/study-{task}.svg"
    draw_picture(_front(found), DOCS / name)
    return "\n\n".join(
        [
            f"### {heading}",
            f"{found.n} texts a row and seed, seeds {', '.join(map(str, found.seeds))}.",
            _figures(found),
            _short(found),
            _against(found),
            f"![{heading}: diversity and coherence of each method]({name})",
            _tried(work, task),
        ]
    )


def _default(work: Path, tables: Mapping[str, Table]) -> str:
    """Writes the default against plain sampling and the best setting of each baseline, by task and
    over all of them: tasks share no text, so their intervals add as independent ones do."""
    rows = []
    for family in ("plain", *BASELINES):
        gains = [
            found.difference("summary", DEFAULT, chosen(work, task).get(family, family))
            for task, found in tables.items()
        ]
        known = [gain for gain in gains if gain]
        rows.append([family, *map(_signed, gains), _signed(together(known))])
    names = [HEADINGS[task] for task in tables]
    what = f"The summary figure of the default (`{DEFAULT}`) less that of a baseline,\n"
    what += "each baseline with the setting chosen for the task; 95% intervals."
    head = ["less", *names, "all tasks, mean"]
    return f"### The default against the baselines\n\n{what}\n\n{table(head, rows)}"


def together(gains: Sequence[Mean]) -> Mean:
    """Computes the mean of independent differences."""
    mean = fmean(gain.mean for gain in gains)
    half = sqrt(sum((gain.high - gain.mean) ** 2 for gain in gains)) / len(gains)
    return Mean(mean, mean - half, mean + half)


def _figures(found: Table) -> str:
    ordered = sorted(found.methods, key=lambda each: -_mean(found, "summary", each))
    rows = []
    for method in ordered:
        summary = found.mean("summary", method)
        shown = "-" if summary is None else f"{summary.mean:.3f} ± {summary.mean - summary.low:.3f}"
        share = f"{found.accepted[method]} / {found.attempts[method]}" if method != REAL else ""
        values = [_mean(found, metric, method) for metric in SHOWN]
        rows.append([f"`{method}`", share, *(f"{value:.2f}" for value in values), shown])
    return table(["method", "accepted / attempts", *SHOWN.values(), "summary"], rows)


def _mean(found: Table, metric: str, method: str) -> float:
    mean = found.mean(metric, method)
    return float("nan") if mean is None else mean.mean


def _short(found: Table) -> str:
    if not found.short:
        return "Every method made its records."
    each = [f"`{name}` ({found.accepted[name]} of {found.attempts[name]})" for name in found.short]
    return f"Too few records were accepted to measure: {', '.join(each)}."


def _against(found: Table) -> str:
    """Writes ours, chosen from as many settings, against the best baseline and plain sampling."""
    ours = [each for each in found.methods if _family(each) in OURS]
    rest = [each for each in found.methods if not _ours(each) and each != REAL]
    best = max(rest, key=lambda each: _mean(found, "summary", each))
    metrics = ("summary", "fidelity_score", "diversity_score", "coherence_score", "auroc_logistic")
    rows = [
        [
            f"`{one}` less `{other}`",
            *(_signed(found.difference(key, one, other)) for key in metrics),
        ]
        for one in ours
        for other in dict.fromkeys((best, "plain"))
    ]
    names = ["summary", "fidelity", "diversity", "coherence", "AUROC, logistic"]
    return table(["difference, 95% interval", *names], rows)


def _ours(method: str) -> bool:
    return _family(method) in OURS or _family(method) in PUBLISHED


def _signed(mean: Mean | None) -> str:
    return "-" if mean is None else f"{mean.mean:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"


def _front(found: Table) -> Figure:
    """Draws diversity over coherence, both with intervals; the size says how fidelity is."""
    figure = Figure(figsize=(9.5, 5), layout="constrained")
    axes = figure.add_subplot()
    for number, method in enumerate(found.methods, start=1):
        x, y = (found.mean(metric, method) for metric in ("coherence_score", "diversity_score"))
        if x is None or y is None:
            continue
        color = "black" if method == REAL else "tab:red" if _ours(method) else "tab:blue"
        axes.errorbar(
            x.mean,
            y.mean,
            xerr=x.mean - x.low,
            yerr=y.mean - y.low,
            fmt="o",
            color=color,
            markersize=3 + 9 * max(0.0, _mean(found, "fidelity_score", method)),
            elinewidth=0.8,
            alpha=0.8,
            label=f"{number} {_family(method)}",
        )
        # Names of near points would cover each other: numbers, at a different height each.
        place = (6, 5 + 9 * (number % 3))
        axes.annotate(
            str(number),
            (x.mean, y.mean),
            place,
            textcoords="offset points",
            fontsize=8,
            color=color,
        )
    figure.legend(loc="outside right upper", fontsize=8, markerscale=0.4)
    axes.set(
        xlabel="coherence (1: the judges' likelihood of real text)",
        ylabel="diversity (1: that of real text)",
        title="Larger points are harder to tell from real text",
    )
    axes.grid(alpha=0.3)
    return figure


def _tried(work: Path, task: str) -> str:
    """Writes every setting that was tried on the validation part."""
    folder = work / "validation" / task / f"seed-{VALIDATION_SEED}"
    rows = json.loads((folder / "evaluation.json").read_bytes())["rows"]
    taken = set(chosen(work, task).values())
    known = {entry.name: entry for entry in Comparison.open(folder).entries}
    lines = []
    for row in sorted(rows, key=lambda each: -(each["summary"]["value"] or 0)):
        values = [row[metric]["value"] for metric in (*SHOWN, "summary")]
        name = f"**`{row['name']}`**" if row["name"] in taken else f"`{row['name']}`"
        lines.append([name, *("-" if each is None else f"{each:.2f}" for each in values)])
    missing = [f"`{name}` ({e.accepted} of {e.attempts})" for name, e in known.items() if e.short]
    rest = (
        f"\n\nFewer than three quarters of their records: {', '.join(missing)}." if missing else ""
    )
    head = "<details><summary>All settings tried on the validation part, chosen ones bold</summary>"
    body = table(["setting", *SHOWN.values(), "summary"], lines)
    return f"{head}\n\n{body}{rest}\n\n</details>"


def _streams(work: Path, tasks: Iterable[str]) -> str:
    rows: list[list[str]] = []
    for task in tasks:
        path = work / "data" / task / "streams.json"
        if path.exists():
            rows += _stream_rows(task, json.loads(path.read_bytes()))
    if not rows:
        return ""
    head = ["task", "panel", "place", "expert - base", "expert - negative", "entropy: expert"]
    head += ["base", "negative", "plausible tokens"]
    return "### Where guidance acts\n\n" + table(head, rows)


def _stream_rows(task: str, found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for form, places in found.items():
        for place, streams in places.items():
            expert, base, negative = (streams[name] for name in ("expert", "base", "negative"))
            gaps = [expert["log_prob"] - other["log_prob"] for other in (base, negative)]
            entropies = [each["entropy"] for each in (expert, base, negative)]
            values = [*(f"{gap:+.2f}" for gap in gaps), *(f"{each:.2f}" for each in entropies)]
            rows.append([task, form, place, *values, f"{expert['plausible']:.0f}"])
    return rows


def _weights(work: Path) -> str:
    """Writes the likeliest weights: of the base model as gamma, of the negative as eta."""
    rows: list[list[str]] = []
    for task in TASKS:
        path = work / "weights" / f"{task}.json"
        if path.exists():
            rows += _weight_rows(task, json.loads(path.read_bytes()))
    if not rows:
        return ""
    head = ["task", "fitted on (texts given)", "streams", "gamma", "eta", "weights' sum"]
    head += ["nats a token", "the expert's", "gain, 95% interval"]
    return "### The weights under which real texts are likeliest\n\n" + table(head, rows)


def _weight_rows(task: str, found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for fitted, each in sorted(found.items(), key=lambda item: int(item[0])):
        for one in each:
            weights = one["weights"]
            used = ", ".join(name for name, weight in weights.items() if weight)
            gain = _signed(Mean(one["expert"] - one["nats"], one["low"], one["high"]))
            values = [-weights["base"], -weights["negative"]]
            shown = [f"{value:+.2f}" if value else "" for value in values]
            nats = [f"{value:.3f}" for value in (one["nats"], one["expert"])]
            total = f"{sum(weights.values()):.2f}"
            rows.append([task, f"{int(fitted):,} rows", used, *shown, total, *nats, gain])
    return rows


def _use(work: Path) -> str:
    path = work / "use" / "found.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_bytes())
    names = list(dict.fromkeys(each["trained_on"] for each in found))
    by = {(each["rows"], each["trained_on"]): each for each in found}
    sizes: Sequence[int] = sorted({each["rows"] for each in found})
    rows = [[name, *(_score(by.get((size, name))) for size in sizes)] for name in names]
    return "### What a classifier learns\n\n" + table(
        ["trained on", *(f"{size:,} real rows" for size in sizes)], rows
    )


def _score(score: Mapping[str, Any] | None) -> str:
    return "-" if score is None else f"{score['mean']:.3f} ({score['sd']:.3f})"

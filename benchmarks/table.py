"""Progress and results, as a person reads them and as a file."""

import json
import time
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.command import write_results
from benchmarks.machine import versions
from benchmarks.pairs import Ratio
from benchmarks.plan import Budget
from benchmarks.suite import MEANINGS, TARGETS, met
from steer.cli.progress import duration


class Talk:
    """Tells what is being measured, a line each, with the time since the beginning and, within a
    `budget`, the most that is left."""

    def __init__(self, console: Console, budget: Budget | None = None) -> None:
        self.console, self.budget = console, budget or Budget(None)
        self.began = time.monotonic()

    def __call__(self, text: str) -> None:
        since = duration(time.monotonic() - self.began)
        left = self.budget.left
        more = f" [dim](at most {duration(left)} left)[/dim]" if 0 < left < inf else ""
        self.console.print(f"[dim]{since:>8}[/dim]  {text} ...{more}", highlight=False)


def show(ratios: dict[str, Ratio], measurements: list[dict[str, Any]], console: Console) -> None:
    """Prints the ratios beside their targets, then what each side did."""
    table = Table("ratio", "median", "low to high", "target", "", title="Pair by pair")
    for name, ratio in ratios.items():
        sign, target = TARGETS.get(name, ("", ""))
        mark = {True: "[green]met[/green]", False: "[red]not met[/red]", None: ""}
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        meaning = MEANINGS.get(name, name)
        table.add_row(
            meaning, f"{ratio.median:.2f}", spread, f"{sign} {target}", mark[met(name, ratio)]
        )
    console.print(table)
    rates = Table("", "side", "rows", "records", "tokens each", "tokens a second", title="Speed")
    for row in measurements:
        if "tokens_per_second" in row:
            rate = f"{row['tokens_per_second']['median']:.1f}"
            rates.add_row(row["group"], row["side"], *(_counts(row)), rate)
    console.print(rates)


def keep(
    path: Path, found: dict[str, Any], where: dict[str, Any], plan: Any, console: Console
) -> None:
    """Writes what was found, `where` (a machine) and by which versions and plan, and says so."""
    others = {"machine": where, "versions": versions(), "settings": asdict(plan)}
    write(path, {}, found | others)
    console.print(f"Written to {path}", highlight=False, markup=False)


def _counts(row: dict[str, Any]) -> list[str]:
    return [str(row[name]) for name in ("rows", "records", "tokens")]


def write(path: Path, ratios: dict[str, Ratio], others: dict[str, Any]) -> None:
    """Writes the results as JSON: a key a ratio, then everything else."""
    found = {name: asdict(ratio) for name, ratio in ratios.items()}
    text = json.dumps(found | others, indent=2) + "\n"
    write_results(path, text)

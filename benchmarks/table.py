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
from benchmarks.suite import in_words, met, target
from steer.cli.progress import duration
from steer.errors import SteerError

ADDED = "added"
"""Key of a results file of `make bench` that says which of its ratios other commands measured, when
and where: an entry for each measurement, by its name."""


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
        mark = {True: "[green]met[/green]", False: "[red]not met[/red]", None: ""}
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        wanted = " ".join(map(str, target(name) or ()))
        table.add_row(in_words(name), f"{ratio.median:.2f}", spread, wanted, mark[met(name, ratio)])
    console.print(table)
    if not measurements:
        return
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
    _write(path, found | others)
    console.print(f"Written to {path}", highlight=False, markup=False)


def _counts(row: dict[str, Any]) -> list[str]:
    return [str(row[name]) for name in ("rows", "records", "tokens")]


def write(path: Path, ratios: dict[str, Ratio], others: dict[str, Any]) -> None:
    """Writes the results of `make bench` as JSON: a key a ratio, then everything else. Ratios that
    other commands added stay, but for those that are measured here."""
    old = read(path)
    added = {name: _without(entry, ratios) for name, entry in old.get(ADDED, {}).items()}
    added = {name: entry for name, entry in added.items() if entry["ratios"]}
    kept = {name: old[name] for entry in added.values() for name in entry["ratios"]}
    found = {name: asdict(ratio) for name, ratio in ratios.items()}
    _write(path, found | kept | others | ({ADDED: added} if added else {}))


def add(path: Path, name: str, ratios: dict[str, Ratio], how: dict[str, Any]) -> None:
    """Adds ratios to the results of `make bench`, which need not be there, in place of what the
    measurement of that `name` added before; `how` says by which command, where and when."""
    found = read(path)
    added = found.pop(ADDED, {})
    for old in added.pop(name, {"ratios": ()})["ratios"]:
        found.pop(old, None)
    added = {other: _without(entry, ratios) for other, entry in added.items()}
    added[name] = {"ratios": list(ratios), **how}
    found |= {key: asdict(ratio) for key, ratio in ratios.items()}
    ratios_first = dict(sorted(found.items(), key=lambda item: not is_ratio(item[1])))
    _write(path, ratios_first | {ADDED: added})


def how(command: str, where: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Says how something was measured: by a command, `where` (a machine), and by which versions."""
    return {"command": command, "machine": where, "versions": versions(), "settings": settings}


def read(path: Path) -> dict[str, Any]:
    """Reads a results file; nothing where there is none. Raises `SteerError` when it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SteerError(
            f"cannot read the results in {path}: {error}; name another file with --out"
        ) from None
    return found


def is_ratio(value: Any) -> bool:
    """Whether a value of a results file is a ratio."""
    return isinstance(value, dict) and set(value) == {"median", "low", "high"}


def _without(entry: dict[str, Any], ratios: dict[str, Ratio]) -> dict[str, Any]:
    return {**entry, "ratios": [name for name in entry["ratios"] if name not in ratios]}


def _write(path: Path, found: dict[str, Any]) -> None:
    write_results(path, json.dumps(found, indent=2) + "\n")

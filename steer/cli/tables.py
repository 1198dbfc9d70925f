"""Tables and lines that the commands print when they are done."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from steer.cli.progress import duration
from steer.cli.terminal import indented, one_line, safe
from steer.config import Config
from steer.correction.outcome import Correction, describe
from steer.data.characters import printable
from steer.methods import Method
from steer.runs import advice
from steer.runs.overview import Overview
from steer.runs.store import Run

if TYPE_CHECKING:  # these load model libraries, which `steer show` does without
    from steer.experiments.comparison import Comparison
    from steer.experiments.tuning import Tuning
    from steer.models.cache import Cache
    from steer.models.expert import Expert
    from steer.runs.forecast import Forecast


def show_expert(expert: "Expert") -> None:
    """Prints where the expert is, what became of the texts, how its losses went, and what to be
    warned of."""
    out = open_console()
    others = f"{len(expert.held_out)} held out" + (
        f", {expert.dropped} dropped as too long" if expert.dropped else ""
    )
    out.print(
        f"[bold]{safe(str(expert.path))}[/bold]: {safe(expert.base)} fitted on {expert.trained_on} "
        f"of {expert.rows} texts ({others})"
    )
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("epoch", "loss", "held-out loss", ""):
        table.add_column(name, justify="right")
    for loss in expert.losses:
        kept = "kept" if loss.epoch == expert.best_epoch else ""
        train = "" if loss.train is None else f"{loss.train:.3f}"
        table.add_row(str(loss.epoch or "base"), train, f"{loss.held_out:.3f}", kept)
    out.print(table)
    if expert.end_bias:
        biases = [bias for _, bias in expert.end_bias]
        out.print(
            "It would end texts elsewhere than the real ones end: its records have a bias of "
            f"{min(biases):+.1f} to {max(biases):+.1f} nats on their end (--no-end-bias)."
        )
    for warning in expert.warnings:
        out.print(printable(f"warning: {warning}"), style="yellow", highlight=False, markup=False)


def show_outcome(run: Run) -> None:
    """Prints how a run ended: counts, reject reasons, and what can be done with it."""
    out = open_console()
    accepted, wanted = len(run.records), run.config.total
    spent = accepted + len(run.rejects) >= run.config.attempts
    ending = f" when the {run.config.attempts} attempts were used up" if spent else ""
    ending = "" if run.complete else ending or " when the budget was spent"
    out.print(f"[bold]{accepted} of {wanted} records accepted[/bold]{ending}: {safe(run.path)}")
    if run.rejects:
        out.print(f"{len(run.rejects)} rejected: {safe(run.reasons_in_words)}")
    if run.correction:
        show_correction(run.correction)
    if not run.complete and not spent:
        out.print("The same command continues; --budget and --max-tokens count anew.")
    elif not run.complete:
        for line in (*advice.reasons(run), advice.going_on(run)):
            out.print(printable(f"- {line}"), highlight=False, markup=False)


def show_forecast(seen: "Forecast") -> None:
    """Prints what a run would take."""
    sure = "at the rate so far" if seen.known else "if 4 of 5 pass"
    out = open_console()
    out.print(
        f"about {seen.attempts:,} attempts ({sure}) and {seen.tokens:,} tokens, "
        f"{seen.streams} streams each",
        highlight=False,
    )
    out.print(
        f"about {duration(seen.seconds)} here, at {seen.tokens_per_second:,.0f} tokens a second; "
        f"{seen.memory / 2**30:.1f} GiB of memory so far",
        highlight=False,
    )


def show_correction(correction: Correction) -> None:
    """Prints how a correction went, in one line."""
    figures = [f"{name}: {value}" for name, value in describe(correction).items()]
    line = printable("; ".join(figures))
    open_console().print(line, highlight=False, markup=False, soft_wrap=True)


def show_run(seen: Overview) -> None:
    """Prints the settings, counts and reject reasons of a run, and its first records."""
    out, run = open_console(), seen.run
    accepted, wanted = sum(seen.counts.values()), run.config.total
    state = "complete" if seen.complete else "not complete"
    out.print(f"[bold]{safe(str(run.path))}[/bold]: {accepted} of {wanted} records, {state}")
    out.print(_pairs({"steer": run.version, **_flat(run.sources), **_flat(run.config)}))
    counts = {f"accepted, {label}": count for label, count in seen.counts.items() if label}
    counts |= {"accepted": accepted, "rejected": sum(seen.reasons.values())}
    out.print(_pairs(counts | {f"rejected, {name}": n for name, n in seen.reasons.items()}))
    if seen.correction:
        out.print(_pairs({f"correction, {k}": v for k, v in describe(seen.correction).items()}))
    for record in seen.first:
        label = f"{record.label}  " if record.label else ""
        text, begin = indented(label + record.text, 10), f"[dim]{record.id:>8}[/dim]  "
        if record.turns:  # what is answered, above the answer
            out.print(f"{begin}[dim]{safe(one_line(record.turns[-1][1]))}[/dim]", highlight=False)
            begin = " " * 10
        out.print(f"{begin}{safe(text)}", highlight=False)


def show_comparison(comparison: "Comparison") -> None:
    """Prints what each method took to make its records."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", overflow="fold")
    for name in ("accepted", "attempts", "tokens", "seconds"):
        table.add_column(name, justify="right")
    for entry in comparison.entries:
        seconds = "" if entry.seconds is None else f"{entry.seconds:.0f}"
        accepted = f"{entry.accepted} of {entry.wanted}"
        row = (accepted, str(entry.attempts), f"{entry.tokens:,}", seconds)
        table.add_row(safe(entry.name), *row)
    out = open_console()
    out.print(table)
    if short := [entry.name for entry in comparison.entries if entry.short]:
        out.print(printable(f"Not measured, for want of records: {', '.join(short)}"), markup=False)


def show_tuning(tuning: "Tuning", command: str) -> None:
    """Prints all trials, those on the front marked, then the recommendation, its reason, and the
    `command`."""
    from steer.experiments.trials import SUMMARY, mean_name

    parts = list(tuning.recommended.components)
    headings = {SUMMARY: mean_name(tuning.recommended)}
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("trial", justify="right", no_wrap=True)
    for part in parts:
        heading = headings.get(part, part.removesuffix("_score").replace("_", " "))
        table.add_column(heading, justify="right")
    table.add_column("settings", overflow="fold", style="dim")
    for trial in tuning.trials:
        mark = "*" if trial.number in tuning.front else ""
        figures = [f"{trial.components[part]:.3f}" for part in parts if part in trial.components]
        settings = " ".join(f"{name}={_short(value)}" for name, value in trial.settings.items())
        said = settings if trial.reason is None else f"{settings}: {trial.reason}"
        blanks = [""] * (len(parts) - len(figures))
        style = "bold" if trial.number == tuning.recommended.number else None
        table.add_row(f"{mark}{trial.number}", *figures, *blanks, safe(said), style=style)
    out = open_console()
    out.print(table)
    out.print("[dim]* on the Pareto front: none is better in one figure and as good in all[/]")
    out.print(f"Recommended: trial {tuning.recommended.number}. {safe(tuning.reason)}")
    out.print(printable(command), markup=False, highlight=False, soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_methods(methods: Sequence[Method]) -> None:
    """Prints the methods: what each is, and its settings beside plain sampling."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    table.add_column("settings", style="dim", overflow="fold")
    for method in methods:
        settings = " ".join(f"{name}={value}" for name, value in method.settings.items())
        table.add_row(method.name, method.about, settings)
    open_console().print(table)


def show_cache(cache: "Cache", models: Sequence[Path]) -> None:
    """Prints where the cache is, its size and limit, its entries by kind, and the folders of
    what was converted with the size of each."""
    out, kinds = open_console(), cache.kinds()
    state = f"{_megabytes(cache.size())} of at most {_megabytes(cache.limit)}"
    out.print(f"[bold]{safe(str(cache.path))}[/bold]: {state}", highlight=False)
    if cache.problem:
        out.print(printable(f"It is not used: {cache.problem}"), markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("kept")
    for name in ("entries", "size"):
        table.add_column(name, justify="right")
    for kind, (entries, size) in sorted(kinds.items()):
        table.add_row(safe(f"{kind}s"), f"{entries:,}", _megabytes(size))
    for folder in models:
        table.add_row(f"folder {safe(str(folder))}", "", _megabytes(folder_size(folder)))
    if table.row_count:
        out.print(table)
    out.print("Remove it: steer cache --clear; with the models: --clear --models", highlight=False)


def show_removed(path: Path, size: int) -> None:
    """Prints what was removed, of `size` bytes."""
    done = f"removed: {path} ({_megabytes(size)})" if size else f"nothing to remove: {path}"
    open_console().print(printable(done), highlight=False, markup=False, soft_wrap=True)


def folder_size(folder: Path) -> int:
    """Sums up the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def open_console() -> Console:
    """Console on standard output; into a file or pipe without the narrow width assumed of
    terminals."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=160)


def _pairs(values: Mapping[str, object]) -> Table:
    """Makes a table of names and values."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(safe(name), safe(str(value)))
    return table


def _flat(config: Config) -> dict[str, object]:
    """Collects settings by name, without unset ones; those of a nested config stand for themselves,
    or after its name and a dot where `config` has one of the same name."""
    flat: dict[str, object] = {}
    for name, value in config:
        if isinstance(value, Config):
            for inner, each in _flat(value).items():
                flat[f"{name}.{inner}" if inner in type(config).model_fields else inner] = each
        elif value is not None and value != {}:
            flat[name] = value
    return flat

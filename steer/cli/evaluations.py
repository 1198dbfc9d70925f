"""Evaluations on a terminal: a table that a newcomer can read, or all figures."""

import textwrap
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from steer.cli.tables import open_console
from steer.cli.terminal import safe
from steer.data.characters import printable
from steer.evaluation.estimate import Estimate
from steer.evaluation.table import BRIEF, COLUMNS, PLAIN, Column, Evaluation, Row

SIDE_BY_SIDE = 6
"""Sets up to which a brief table has a column for each; of more each has a row."""

_MEANINGS = {
    "words_mean": "length of a text",
    "nonsense": "share that reads worse than 95% of real texts do, so 5% is as real",
    "auroc": "0.5 if nothing tells the set from real texts, 1 if something always does",
    "diversity_score": "1 if the texts vary as real ones do",
    "near_copies": "share that repeats a training text, word for word or nearly",
    "too_close": "share nearer to a training text than 95% of real texts are, so 5% is as real",
    "utility": "accuracy on real texts of a classifier trained on the set",
    "summary": "likeness, diversity, sense and non-copying in one figure, about 1 for real texts",
}
_MARGINALS = (
    "columns of the records: distance of numbers (Wasserstein) in standard deviations of the real "
    "ones; share of categories that would have to be others (total variation)"
)
_ALWAYS = {"nonsense": "not measured", "summary": "none"}
"""Figures that a brief table has even without a value, and what it shows then."""

_BRIEF_FORMATS = {PLAIN: ".2f"}
_COLUMNS = {column.key: column for column in COLUMNS}


def show_evaluation(evaluation: Evaluation, full: bool = False) -> None:
    """Prints the table, brief or `full`, then the verdict and the notes. The real texts' own
    figures come last."""
    out = open_console()
    heading = f"{evaluation.n} texts of each set against {evaluation.n} real ones"
    read = "".join(f", judge: {name}" for name in evaluation.judges[:1] if name)
    out.print(f"[bold]{heading}[/bold] (embedder: {safe(evaluation.embedder + read)})")
    (_print_full if full else _print_brief)(out, evaluation)
    out.print(printable(sentence(evaluation.verdict)), style="bold", highlight=False, markup=False)
    for note in evaluation.notes:
        out.print(printable(f"- {note}"), highlight=False, markup=False)


def sentence(words: str) -> str:
    """Writes `words` with a capital letter and a full stop; nothing stays nothing."""
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _print_brief(out: Console, evaluation: Evaluation) -> None:
    columns = [
        _COLUMNS[key] for key in BRIEF if key in _ALWAYS or _is_measured(evaluation.rows, key)
    ]
    turned = len(evaluation.rows) - 1 > SIDE_BY_SIDE  # without the real texts
    out.print((_sets_as_rows if turned else _sets_as_columns)(columns, evaluation.rows))
    meanings = "; ".join(f"{each.title}: {_MEANINGS[each.key]}" for each in columns)
    out.print(f"[dim]{safe(meanings)}. ± half the 95% interval.[/dim]", highlight=False)


def _sets_as_columns(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in _headings(rows):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("better", style="dim", no_wrap=True)
    for column in columns:
        cells = (_brief_figure(column, row.estimates[column.key]) for row in rows)
        table.add_row(column.title, *cells, column.aim)
    return table


def _sets_as_rows(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for column in columns:
        longest = max(map(len, column.title.split()))
        table.add_column(column.title, justify="right", min_width=longest)
    for row in rows:
        cells = (_brief_figure(column, row.estimates[column.key]) for column in columns)
        table.add_row(safe(row.name), *cells)
    table.add_row("better", *(column.aim for column in columns), style="dim")
    return table


def _print_full(out: Console, evaluation: Evaluation) -> None:
    """Prints one row a metric, one column a set."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for name in _headings(evaluation.rows):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("better", style="dim", no_wrap=True)
    columns = [column for column in COLUMNS if _is_measured(evaluation.rows, column.key)]
    group = columns[0].group
    for column in columns:
        if column.group != group:
            table.add_section()
            group = column.group
        cells = [_figure(column.key, row.estimates[column.key]) for row in evaluation.rows]
        table.add_row(column.title, *cells, column.aim)
    if evaluation.marginals:
        table.add_section()
    for each in evaluation.marginals:
        figures = [_shown(each.estimates[row.name], PLAIN) for row in evaluation.rows]
        table.add_row(safe(each.title), *figures, "lower")
    out.print(table)
    if evaluation.marginals:
        out.print(f"[dim]{_MARGINALS}[/]")
    out.print(
        "[dim]± half the 95% interval over texts; for MAUVE and trained classifiers the standard "
        "deviation[/]"
    )


def _headings(rows: Sequence[Row]) -> Iterator[str]:
    # Broken at hyphens too, which Rich does not do.
    return (safe(textwrap.fill(row.name, 14)) for row in rows)


def _is_measured(rows: Sequence[Row], key: str) -> bool:
    return any(row.estimates[key].value is not None for row in rows)


def _brief_figure(column: Column, estimate: Estimate) -> str:
    """Writes a figure with the digits that its interval leaves a meaning to."""
    if estimate.value is None:
        return f"[dim]{_ALWAYS.get(column.key, '-')}[/dim]"
    digits = _BRIEF_FORMATS.get(column.format, column.format)
    return _with_spread(estimate, estimate.value, digits)


def _figure(key: str, estimate: Estimate) -> str:
    """Writes a figure such as "0.613 ±0.021" or "3.8%"; a dash where there is no value (the notes
    say why)."""
    return _shown(estimate, _COLUMNS[key].format)


def _shown(estimate: Estimate, digits: str) -> str:
    return "-" if estimate.value is None else _with_spread(estimate, estimate.value, digits)


def _with_spread(estimate: Estimate, value: float, digits: str) -> str:
    spread = estimate.sd
    if estimate.low is not None and estimate.high is not None:
        spread = (estimate.high - estimate.low) / 2
    beside = "" if spread is None else f" [dim]±{spread:{digits}}[/dim]"
    return f"{value:{digits}}{beside}"

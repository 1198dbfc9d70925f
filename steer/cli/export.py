"""`steer export` and `steer show`: a run's records taken away, or looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.data.characters import printable
from steer.errors import SteerError, counted

if TYPE_CHECKING:
    from steer.runs.exporting import Exported

_EXAMPLES = (
    "Example: [b]steer export run records.parquet[/b]\n\n"
    "A Hugging Face dataset in three parts: [b]steer export run dataset --split 80:10:10[/b]\n\n"
    "Without all that row 17 of the real texts had a part in: "
    "[b]steer export run records.csv --without real:17 --columns text,label[/b]"
)


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command(epilog=_EXAMPLES)(export)
    app.command(
        epilog="Example: [b]steer show run[/b]\n\n"
        "What came of one real text: [b]steer show run --lineage real:17[/b]"
    )(show)


def export(
    run: options.RunArgument,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help=".jsonl, .csv, .parquet, .md (a sample to read), or a folder: a Hugging Face "
            "dataset.",
        ),
    ],
    columns: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Columns to write. (default: all)")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="A:B:C",
            help="Parts of train, validation and test, such as 80:10:10: files of a folder, else a "
            "column.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Leave out every record whose panel held this real text (real:17) or record.",
        ),
    ] = None,
    atlas: Annotated[
        bool,
        typer.Option(
            "--atlas",
            help="Add coordinates and neighbours for embedding viewers (embedding-atlas).",
        ),
    ] = False,
    embedder: options.Embedder = None,
    table: options.Table = None,
    guard: Annotated[
        bool,
        typer.Option(help="Put a quote before CSV cells that a spreadsheet would run."),
    ] = True,
) -> None:
    """Write a run's accepted records, each with where it came from."""
    with console.on_stop(f"{out} was not made"):
        from steer.runs.card import CardSettings
        from steer.runs.exporting import ExportSettings
        from steer.runs.exporting import export as export_run
        from steer.runs.measured import measured_table

        if table and out.suffix:
            raise SteerError(f"{out} has no card for --table; name a folder, such as {out.stem}")
        measured = measured_table(table) if table else None
        settings = ExportSettings(
            columns=tuple(parsing.names(columns)),
            without=tuple(without or ()),
            split=parsing.parts("--split", split) if split else None,
            atlas=atlas,
            embedder=embedder,
            guard=guard,
            card=CardSettings(measured=measured),
        )
        done = export_run(parsing.run_place(run), out, settings)
    print(printable(f"written: {out} ({_said(done)})"))
    if without:  # also where no panel held it
        print(
            f"left out: {counted(done.dropped, 'record')} (--without). The expert itself may have "
            "been fitted on that text: fit another without it, and generate again, to be free of "
            "it."
        )
    if done.guarded:
        print(
            f"{counted(done.guarded, 'cell')} with the beginning of a formula: each has a quote in "
            "front, so that no spreadsheet runs it (--no-guard leaves them as they are)."
        )


def show(
    run: options.RunArgument,
    records: Annotated[int, typer.Option(min=0, help="How many records to show.")] = 10,
    lineage: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Instead: what the panel of a record (rec:12) held, and which records were made "
            "with it, or with a real text (real:17), in theirs.",
        ),
    ] = None,
) -> None:
    """Show a run's settings, counts, reject reasons and first records."""
    from steer.cli import tables as views
    from steer.runs.lineage import lineage as lines_of
    from steer.runs.overview import Overview
    from steer.runs.store import Stream

    opened = Stream.open(parsing.run_place(run))
    if lineage is None:
        views.show_run(Overview.of(opened, records))
        return
    for line in lines_of(opened, lineage):
        print(printable(line))


def _said(done: "Exported") -> str:
    if len(done.splits) < 2:
        return counted(done.records, "record")
    return ", ".join(f"{count:,} {name}" for name, count in done.splits.most_common())

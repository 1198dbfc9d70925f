"""The folder of `steer make`: what it is for, and the texts it puts aside."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel, TypeAdapter

from steer.cli.reading import ReadingOptions
from steer.errors import SteerError
from steer.files import reading, write_atomic, write_json
from steer.shapes import Shape
from steer.values import check_values

if TYPE_CHECKING:
    from steer.data.corpus import Corpus
    from steer.data.tasks import Task

SCHEMA = "schema.json"
"""What all rows are like, those to fit on and those to measure against, where they are objects."""


@dataclass(frozen=True)
class Given:
    """What the command line says the folder is for."""

    data: str
    held_out: str | None
    prompt: str | None
    task: str | None
    n: int
    seed: int


@dataclass(frozen=True)
class Job:
    """What the folder is for: `data` as it was read with `reading` options, what a record is
    (words for fit), where its labels and columns are in the folder's own files (words), the records
    wanted (words for generate), the number of texts to measure against, and the shape of records
    that are objects."""

    data: str
    reading: tuple[str, ...]
    what: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    wanted: tuple[str, ...]
    held_out: int
    shape: Shape | None


def begin(out: Path, given: Given, chosen: ReadingOptions) -> Job:
    """Reads the texts, divides them, and keeps in the folder what it is for. Raises `SteerError`
    when the folder was made for other texts or another prompt."""
    from steer.data.catalog import load_task
    from steer.data.parts import label_column, shared_out

    declared = load_task(given.task) if given.task else None
    corpus = chosen.load_for(declared, given.data)
    held = chosen.load_for(declared, given.held_out) if given.held_out else None
    known = _known(out)
    texts = corpus.fingerprint if held is None else f"{corpus.fingerprint} {held.fingerprint}"
    if known and known["texts"] != texts:
        raise SteerError(f"{out} was made of other texts ({known['data']}); choose another folder")
    what = _what(out, given, corpus, known)
    counts = shared_out(corpus.labels, given.n) if corpus.labels else {}
    wanted = [word for label, k in counts.items() for word in ("--label", f"{label}={k}")]
    columns = _columns(out, corpus, declared)
    if not known:
        known = _set_up(out, given, corpus, held, what) | {"texts": texts}
        write_json(out / "make.json", known)
    return Job(
        given.data,
        chosen.words(),
        what,
        ("--label-column", label_column(corpus)) if counts else (),
        columns,
        tuple(wanted or ("--n", str(given.n))),
        int(known["held"]),
        corpus.shape,
    )


def _what(out: Path, given: Given, corpus: "Corpus", known: dict[str, Any]) -> tuple[str, ...]:
    """Finds the words that tell fit what a record is: as given, as in the folder, or guessed."""
    from steer.data.look import guessed_prompt

    words = (
        ["--task", given.task]
        if given.task
        else ["--prompt", given.prompt]
        if given.prompt
        else known.get("what")
    )
    guess = guessed_prompt(given.data, bool(corpus.labels), corpus.turns is not None)
    what = words or ["--prompt", _prompt(guess)]
    if known and known["what"] != what:
        raise SteerError(
            f"{out} was made with {shlex.join(known['what'])}, not {shlex.join(what)}; "
            "choose another folder"
        )
    return tuple(what)


def _set_up(
    out: Path, given: Given, corpus: "Corpus", held: "Corpus | None", what: Sequence[str]
) -> dict[str, Any]:
    """Puts the texts to fit on and those to measure against into a new folder; gives what is to be
    kept there last."""
    from steer.data.parts import divide, write_jsonl

    _check_new(out)
    fitted, kept = divide(corpus, given.n, given.seed) if held is None else (corpus, held)
    write_jsonl(fitted, out / "real.jsonl")
    write_jsonl(kept, out / "held_out.jsonl")
    if corpus.shape:
        write_atomic(out / SCHEMA, f"{corpus.shape.source}\n".encode())
    return {"data": given.data, "what": list(what), "held": len(kept.texts)}


def _columns(out: Path, corpus: "Corpus", task: "Task | None") -> tuple[str, ...]:
    """Words that say how the rows of records of columns are read, unless the task does."""
    columns = corpus.shape is not None and not (task and task.shape)
    return ("--schema", str(out / SCHEMA)) if columns else ()


class _Made(BaseModel):
    """Content of make.json: what the folder was made of and for, and how many texts are held
    out."""

    data: str
    texts: str
    what: list[str]
    held: int


def _known(out: Path) -> dict[str, Any]:
    path = out / "make.json"
    if not path.is_file():
        return {}
    with reading(path, "choose another folder"):
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        check_values(TypeAdapter(_Made), values)
        return values


def _check_new(out: Path) -> None:
    parts = {"real.jsonl", "held_out.jsonl", SCHEMA}  # what a stop before make.json leaves
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - parts):
        raise SteerError(f"{out} exists and was not made by steer make; choose another folder")


def _prompt(guess: str) -> str:
    """Asks what a text is, where somebody can answer; else takes the guess, and says so."""
    from steer.data.tasks import CHAT

    if sys.stdin.isatty():
        return str(typer.prompt("What is one of these texts? (the prompt)", default=guess))
    how = "what was said before each answer" if guess == CHAT else "guessed from the name"
    print(f"prompt: {guess!r}, {how}; --prompt says it better", file=sys.stderr)
    return guess

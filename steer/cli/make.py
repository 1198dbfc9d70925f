"""`steer make`: every step from real texts to a measured dataset, each a command of its own."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.cli.signals import STOPPED
from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.files import disk_errors, reading, write_atomic, write_json
from steer.methods import CANDIDATES
from steer.values import check_values

if TYPE_CHECKING:
    from steer.data.tasks import Task

SPENT = 3
SCHEMA = "schema.json"
"""What all rows are like, those to fit on and those to measure against, where they are objects."""


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(
        epilog="Example: [b]steer make hypotheses.jsonl --n 500 --out made[/b]\n\n"
        "The same command continues where it was stopped; a larger --n makes more."
    )(with_groups(make))


def make(
    context: typer.Context,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Your real texts.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make, or to continue.")],
    n: Annotated[int, typer.Option(min=1, help="Records wanted.")] = 100,
    prompt: options.Prompt = None,
    task: options.TaskName = None,
    base: Annotated[
        str | None, typer.Option(metavar="NAME", help="Base model. (default: as fit)")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the fit, at most.")] = None,
    method: options.UsualMethod = None,
    max_attempts: options.MaxAttempts = None,
    budget: options.TimeBudget = None,
    seed: options.Seed = 0,
    candidates: options.Candidates = CANDIDATES,
    held_out: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Real texts to measure against. (default: part of DATA is put aside)",
        ),
    ] = None,
    judge: options.Judge = None,
    *,
    reading: ReadingOptions,
) -> None:
    """Make a dataset of your texts in one command: look, fit, generate, evaluate, report, export.

    Each step is a command that you could type yourself; FOLDER/commands.sh has them all.
    """
    with console.on_stop(f"what is finished is in {out}; the same command continues"):
        if prompt is not None and task is not None:
            raise SteerError("found both of --task and --prompt; give one of them")
        given = _Given(data, held_out, prompt, task, n, seed)
        job = _begin(out, given, reading)
        more: dict[str, dict[str, Any]] = {
            "look": {"--base": base},
            "fit": {"--base": base, "--epochs": epochs, "--seed": seed or None},
            "generate": {
                "--method": method,
                "--max-attempts": max_attempts,
                "--budget": budget,
                "--candidates": None if candidates == CANDIDATES else candidates,
                "--seed": seed or None,
            },
            "evaluate": {"--judge": judge or _judges_at_hand()},
        }
        code = _run(context, out, job, {name: _words(each) for name, each in more.items()})
    if code:
        raise typer.Exit(code)


def _judges_at_hand() -> list[str]:
    """Gives the judge that needs no choice: the packaged one, where it is installed."""
    from steer.models.packaged import GEMMA, is_installed

    return [GEMMA] if is_installed(GEMMA) else []


@dataclass(frozen=True)
class _Given:
    """What the command line says the folder is for."""

    data: str
    held_out: str | None
    prompt: str | None
    task: str | None
    n: int
    seed: int


@dataclass(frozen=True)
class _Job:
    """What the folder is for: `data` as it was read with `reading` options, what a record is
    (words for fit), where its labels and columns are in the folder's own files (words), the records
    wanted (words for generate), and the number of texts to measure against."""

    data: str
    reading: tuple[str, ...]
    what: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    wanted: tuple[str, ...]
    held_out: int


def _begin(out: Path, given: _Given, chosen: ReadingOptions) -> _Job:
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
    return _Job(
        given.data,
        chosen.words(),
        what,
        ("--label-column", label_column(corpus)) if counts else (),
        columns,
        tuple(wanted or ("--n", str(given.n))),
        int(known["held"]),
    )


def _what(out: Path, given: _Given, corpus: Corpus, known: dict[str, Any]) -> tuple[str, ...]:
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
    out: Path, given: _Given, corpus: Corpus, held: Corpus | None, what: Sequence[str]
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


def _columns(out: Path, corpus: Corpus, task: "Task | None") -> tuple[str, ...]:
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


def _run(context: typer.Context, out: Path, job: _Job, more: dict[str, list[str]]) -> int:
    """Runs the steps that are still to do; gives the exit code."""
    steps = list(_steps(out, job, more))
    with disk_errors(out):
        lines = (shlex.join(("steer", *words)) for words, _ in steps)
        write_atomic(out / "commands.sh", "".join(f"{line}\n" for line in lines).encode())
    ended = 0
    for words, made in steps:
        before = _rounds(out)
        if made is not None and made.exists():
            continue
        if words[0] == "evaluate" and (few := _too_few(out, job)):
            print(f"not measured: {few}")
            continue
        print(f"\n$ {shlex.join(('steer', *words))}", flush=True)
        code = _command(context, words)
        if isinstance(code, int) and code not in (0, SPENT):
            return code
        ended = code if code == SPENT else ended
        if _rounds(out) != before:
            _forget(steps[steps.index((words, made)) + 1 :])
    print(f"\nmade: {out}; its commands are in {out / 'commands.sh'}")
    return ended


def _command(context: typer.Context, words: Sequence[str]) -> object:
    """Runs a command of `steer` and gives its exit code; Ctrl-C stays Ctrl-C."""
    command = context.find_root().command
    try:
        code: object = command.main(list(words), prog_name="steer", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == STOPPED:
        raise KeyboardInterrupt
    return code


def _steps(
    out: Path, job: _Job, more: dict[str, list[str]]
) -> Iterator[tuple[list[str], Path | None]]:
    """Lists the commands, each with what it makes; None where it is run every time."""
    labels = job.labels
    real, held, expert, run = (
        str(out / name) for name in ("real.jsonl", "held_out.jsonl", "expert", "run")
    )
    yield ["look", job.data, *job.reading, *more["look"]], out / "expert"
    fit = ["fit", real, *job.what, *labels, *job.columns, "--out", expert]
    yield [*fit, *more["fit"]], out / "expert"
    made = ["generate", expert, "--real", real, *labels, *job.wanted, "--out", run]
    yield [*made, *more["generate"]], None
    table, page = out / "table.json", out / "report.html"
    measure = ["evaluate", run, "--real", held, "--train", real, "--json", str(table)]
    yield [*measure, *more["evaluate"]], table
    yield ["report", run, "--real", held, "--out", str(page)], page
    yield ["export", run, str(out / "records.jsonl")], out / "records.jsonl"
    yield ["export", run, str(out / "dataset")], out / "dataset"


def _rounds(out: Path) -> int:
    return len(list((out / "run" / "rounds").glob("*.jsonl")))


def _too_few(out: Path, job: _Job) -> str | None:
    from steer.evaluation.settings import MIN_TEXTS
    from steer.runs.store import Run

    records = len(Run.open(out / "run").records)
    if records >= MIN_TEXTS and job.held_out >= 2 * MIN_TEXTS:
        return None
    return (
        f"{records} records and {job.held_out} real texts to measure them against; at least "
        f"{MIN_TEXTS} and {2 * MIN_TEXTS} are needed"
    )


def _forget(steps: Sequence[tuple[list[str], Path | None]]) -> None:
    """Removes what was made of the records before there were more."""
    for _, made in steps:
        if made is not None and made.is_dir():
            shutil.rmtree(made)
        elif made is not None:
            made.unlink(missing_ok=True)


def _words(given: dict[str, Any]) -> list[str]:
    """Writes the options that were given as words of a command line, one that is a list again and
    again."""
    return [
        word
        for name, value in parsing.given(given).items()
        for each in (value if isinstance(value, list) else [value])
        for word in (name, str(each))
    ]

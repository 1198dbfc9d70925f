"""`steer make`: every step from real texts to a measured dataset, each a command of its own."""

import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.making import Given, Job, begin
from steer.cli.reading import ReadingOptions
from steer.cli.signals import STOPPED
from steer.cli.terminal import say
from steer.data.reading.settings import Reading
from steer.errors import SteerError
from steer.files import disk_errors, write_atomic
from steer.methods import CANDIDATES

SPENT = 3
MEASURED = "--table"


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
        given = Given(data, held_out, prompt, task, n, seed)
        job = begin(out, given, reading)
        _try_judges(out, judge or (), job)
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


def _try_judges(out: Path, judges: Sequence[str], job: Job) -> None:
    """Loads the judges that were named as `evaluate` will, so that one that cannot be is known
    before the work begins. Raises `SteerError`."""
    from steer.models.judge import load_judge

    if not (out / "table.json").exists():
        for judge in judges:
            load_judge(judge, reading=Reading().of_shape(job.shape))


def _run(context: typer.Context, out: Path, job: Job, more: dict[str, list[str]]) -> int:
    """Runs the steps that are still to do; gives the exit code."""
    steps = list(_steps(out, job, more))
    with disk_errors(out):
        lines = (shlex.join(("steer", *words)) for words, _ in steps)
        write_atomic(out / "commands.sh", "".join(f"{line}\n" for line in lines).encode())
    ended = 0
    for step, (words, made) in enumerate(steps, start=1):
        before = _rounds(out)
        if made is not None and made.exists():
            continue
        if words[0] == "evaluate" and (few := _too_few(out, job)):
            print(f"not measured: {few}")
            continue
        if MEASURED in words and not (out / "table.json").exists():
            words = words[: words.index(MEASURED)]
        print(f"\n$ {shlex.join(('steer', *words))}", flush=True)
        code = _code(context, words)
        if code == SPENT or (code and words[0] == "evaluate"):
            ended = code  # what there is can be read and taken away all the same
        elif code:
            return code
        if _rounds(out) != before or (words[0] == "evaluate" and not code):
            _forget(steps[step:])
    print(f"\nmade: {out}; its commands are in {out / 'commands.sh'}")
    return ended


def _code(context: typer.Context, words: Sequence[str]) -> int:
    """Runs a command; gives its exit code. A mistake that only `evaluate` finds ends no other
    step."""
    try:
        code = _command(context, words)
    except SteerError as error:
        if words[0] != "evaluate":
            raise
        say([f"not measured: {error}"])
        return 2
    return code if isinstance(code, int) else 0


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
    out: Path, job: Job, more: dict[str, list[str]]
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
    shown = ["report", run, "--real", held, "--out", str(page)]
    yield [*shown, MEASURED, str(table)], page
    yield ["export", run, str(out / "records.jsonl")], out / "records.jsonl"
    yield ["export", run, str(out / "dataset"), MEASURED, str(table)], out / "dataset"


def _rounds(out: Path) -> int:
    return len(list((out / "run" / "rounds").glob("*.jsonl")))


def _too_few(out: Path, job: Job) -> str | None:
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

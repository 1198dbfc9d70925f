"""The commands that set methods side by side: compare, sweep, tune, report."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.cli.shared import Shared
from steer.data.characters import printable
from steer.errors import SteerError
from steer.methods import DEFAULT, METHODS, find_method, find_methods

if TYPE_CHECKING:  # these load model libraries
    from steer.evaluation.table import Evaluation
    from steer.experiments.comparison import Comparison
    from steer.experiments.setup import Setup

Methods = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        help="Which, or all; steer:gamma=0.4:eta=0.1 changes settings. See steer methods.",
    ),
]
Tuned = Annotated[
    str, typer.Option(metavar="NAME", help="Whose settings: steer, nucleus, cfg, ...")
]
Gammas = Annotated[
    str, typer.Option(metavar="A:B:STEP", help="Its values, or some such as 0,0.2,1.")
]
Etas = Annotated[str, typer.Option(metavar="A:B:STEP", help="Its values.")]
Budget = Annotated[
    str, typer.Option(metavar="TIME", help="How long to tune, such as 90s, 20m or 2h.")
]
Records = Annotated[int, typer.Option("--n", min=1, help="Records of each method.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    data = "--real hypotheses.jsonl"
    examples: dict[Callable[..., None], str] = {
        compare: f"expert {data} --methods nucleus,steer --n 100 --out study",
        sweep: f"expert {data} --gamma 0:1:0.2 --eta 0:1:0.2 --n 100 --out grid",
        tune: f"expert {data} --budget 20m --out tuned",
        report: f"study {data} --out report.html",
        methods: "",
    }
    for command, example in examples.items():
        words = f"steer {command.__name__} {example}".strip()
        app.command(epilog=f"Example: [b]{words}[/b]")(with_groups(command))


def compare(
    given: Shared, methods: Methods = DEFAULT, n: Records = 100, full: options.Full = False
) -> None:
    """Decode in several ways with the same expert, and measure them all."""
    with console.on_stop(f"the finished rounds are in {given.out}; the same command continues"):
        from steer.experiments import comparison
        from steer.models.expert import Expert

        with console.Meter() as meter:
            meter.update("loading")
            fitted = Expert.load(given.expert)
            chosen = find_methods(methods, bool(fitted.labels))
            setup = given.setup(fitted, n, [method.sampling for method in chosen])
            shown = console.comparing(meter, [method.name for method in chosen])
            made = comparison.compare(chosen, setup, given.out, shown)
            measured = _measure(given, setup, made, meter)
    _show(given, setup, made, measured, full)


def sweep(
    given: Shared,
    gamma: Gammas = "0:1:0.2",
    eta: Etas = "0:1:0.2",
    method: options.MethodName = "steer",
    n: Records = 100,
    full: options.Full = False,
) -> None:
    """Try every combination of gamma and eta, mixed in one batch, and measure them all."""
    with console.on_stop(f"the finished rounds are in {given.out}; the same command continues"):
        from steer.experiments import comparison
        from steer.models.expert import Expert

        axes = {"gamma": parsing.values("--gamma", gamma), "eta": parsing.values("--eta", eta)}
        with console.Meter() as meter:
            meter.update("loading")
            fitted = Expert.load(given.expert)
            base = find_method(method, bool(fitted.labels))
            setup = given.setup(fitted, n, [base.sampling])
            made = comparison.sweep(axes, base, setup, given.out, console.generating(meter))
            measured = _measure(given, setup, made, meter)
    _show(given, setup, made, measured, full)


def tune(
    given: Shared,
    budget: Budget = "20m",
    method: Tuned = "steer",
    trials: Annotated[int | None, typer.Option(min=1, help="How many at most.")] = None,
    n: Annotated[int, typer.Option("--n", help="Records of each trial.")] = 64,
) -> None:
    """Search for the settings that suit your texts: fidelity, diversity, coherence, copying."""
    with console.on_stop(f"the finished trials are in {given.out}; the same command continues"):
        from steer.cli import tables
        from steer.experiments import tuning
        from steer.models.expert import Expert
        from steer.runs.budget import parse_budget

        settings = tuning.TuneSettings(
            budget=parse_budget(budget),
            trials=trials,
            n=n,
            seed=given.seed,
            judges=tuple(given.judge or ()),
            embedder=given.embedder,
        )
        with console.Meter() as meter:
            meter.update("loading")
            setup = given.setup(Expert.load(given.expert), n)
            texts = setup.reference, setup.real
            shown = console.tuning(meter)
            tuned = tuning.tune(
                method, setup, *texts, given.out, settings=settings, on_progress=shown
            )
    tables.show_tuning(tuned, tuning.command(tuned))
    print(printable(f"written: {given.out / 'tuning.json'}"))


def report(
    comparison: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER|RUN...", help="A comparison or a sweep, or some runs."),
    ],
    real: options.Real,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="File to write.")],
    mask: options.Mask = None,
    records: Annotated[int, typer.Option(min=0, help="Records of each method to read.")] = 50,
    traces: Annotated[
        int, typer.Option(min=0, max=20, help="Records of each method to show token by token.")
    ] = 0,
    expert: Annotated[
        Path | None,
        typer.Option(help="The expert that wrote them, for --traces. (default: as the runs say)"),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="What steer evaluate --json wrote of the runs. (default: a comparison's own)",
        ),
    ] = None,
    seed: options.Seed = 0,
    *,
    reading: ReadingOptions,
) -> None:
    """Write one HTML page: tables, figures and texts. It opens offline."""
    with console.on_stop(f"{out} was not written"):
        from steer.report.material import shape_of
        from steer.report.report import ReportSettings, write_report

        for folder in comparison:
            if not folder.is_dir():
                raise SteerError(f"there is no folder {folder}; name a comparison or a run")
        parsing.new_file(out)
        source = comparison[0] if len(comparison) == 1 else comparison
        corpus = reading.load(real, shape_of(source))
        settings = ReportSettings(
            mask=mask,
            records=records,
            traces=traces,
            expert=expert,
            table=table,
            seed=seed,
        )
        with console.Meter() as meter:
            meter.update("loading")
            shown = console.evaluating(meter)
            write_report(source, corpus, out, settings=settings, on_progress=shown)
    print(printable(f"written: {out}"))


def methods() -> None:
    """List the ways to decode, and what each sets."""
    from steer.cli import tables

    tables.show_methods(METHODS)


def _measure(
    given: Shared, setup: "Setup", made: "Comparison", meter: console.Meter
) -> "Evaluation":
    from steer.experiments.comparison import evaluate_comparison

    settings = given.measuring(setup)
    shown = console.evaluating(meter)
    return evaluate_comparison(made, setup.reference, setup.real, settings, shown)


def _show(
    given: Shared, setup: "Setup", made: "Comparison", measured: "Evaluation", full: bool
) -> None:
    from steer.cli.evaluations import show_evaluation
    from steer.cli.tables import show_comparison

    show_comparison(made)
    show_evaluation(measured, full)
    page = ("--out", str(made.folder / "report.html"))
    words = ["steer", "report", str(made.folder), "--real", given.real, *setup.text_options, *page]
    print(printable(f"written: {made.folder}; to make a page of it:\n{shlex.join(words)}"))

"""The commands that set methods side by side: compare, sweep, tune, report."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import options
from steer.cli import progress as console
from steer.config import Sampling
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.methods import DEFAULT, METHODS

if TYPE_CHECKING:  # these load model libraries
    from steer.engines.choice import EngineSpec
    from steer.evaluation.evaluate import Evaluation
    from steer.experiments.comparison import Comparison, Setup

Test = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Real texts to measure against, best ones that neither the expert nor a judge was "
        "fitted on. (default: REAL)",
    ),
]
Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make, or to continue.")]
Records = Annotated[int, typer.Option("--n", min=1, help="Records of each method.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    example = "Example: [b]steer {}[/b]"
    app.command(
        epilog=example.format(
            "compare expert --real hypotheses.jsonl --methods nucleus,steer --n 100 --out study"
        )
    )(compare)
    app.command(
        epilog=example.format(
            "sweep expert --real hypotheses.jsonl --gamma 0:1:0.2 --eta 0:1:0.2 --n 100 --out grid"
        )
    )(sweep)
    app.command(
        epilog=example.format("tune expert --real hypotheses.jsonl --budget 20m --out tuned")
    )(tune)
    app.command(epilog=example.format("report study --real hypotheses.jsonl --out report.html"))(
        report
    )
    app.command(epilog=example.format("methods"))(methods)


def compare(
    expert: options.ExpertFolder,
    real: options.Real,
    out: Folder,
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Which, or all; steer:gamma=0.4:eta=0.1 changes settings. See steer methods.",
        ),
    ] = DEFAULT,
    n: Records = 100,
    test: Test = None,
    judge: options.Judge = None,
    towards: options.Towards = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    max_new_tokens: options.MaxNewTokens = None,
    embedder: options.Embedder = None,
    seed: options.Seed = 0,
    engine: options.EngineOption = "hf",
    rows: options.Rows = None,
    dtype: options.DTypeOption = "auto",
    device: options.Device = "auto",
    gpus: options.Gpus = 1,
) -> None:
    """Decode in several ways with the same expert, and measure them all."""
    with console.on_stop(f"the finished rounds are in {out}; the same command continues"):
        from steer.experiments import comparison
        from steer.methods import find_methods

        given = _Given(expert, real, test, towards, (text_column, label_column), seed)
        spec = given.spec(engine, rows, dtype, device, gpus)
        with console.Meter() as meter:
            meter.update("loading")
            chosen = find_methods(methods, given.labelled)
            setup = given.setup(n, max_new_tokens, spec, [method.sampling for method in chosen])
            shown = console.comparing(meter, [method.name for method in chosen])
            found = comparison.compare(chosen, setup, out, shown)
            measured = _measure(found, given, judge, embedder, meter)
    _show(found, measured)


def sweep(
    expert: options.ExpertFolder,
    real: options.Real,
    out: Folder,
    gamma: Annotated[
        str, typer.Option(metavar="A:B:STEP", help="Its values, or some such as 0,0.2,1.")
    ] = "0:1:0.2",
    eta: Annotated[str, typer.Option(metavar="A:B:STEP", help="Its values.")] = "0:1:0.2",
    method: options.MethodName = "steer",
    n: Records = 100,
    test: Test = None,
    judge: options.Judge = None,
    towards: options.Towards = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    max_new_tokens: options.MaxNewTokens = None,
    embedder: options.Embedder = None,
    seed: options.Seed = 0,
    engine: options.EngineOption = "hf",
    rows: options.Rows = None,
    dtype: options.DTypeOption = "auto",
    device: options.Device = "auto",
    gpus: options.Gpus = 1,
) -> None:
    """Try every combination of gamma and eta, mixed in one batch, and measure them all."""
    with console.on_stop(f"the finished rounds are in {out}; the same command continues"):
        from steer.experiments import comparison
        from steer.methods import find_method

        axes = {"gamma": options.values("--gamma", gamma), "eta": options.values("--eta", eta)}
        given = _Given(expert, real, test, towards, (text_column, label_column), seed)
        spec = given.spec(engine, rows, dtype, device, gpus)
        with console.Meter() as meter:
            meter.update("loading")
            base = find_method(method, given.labelled)
            setup = given.setup(n, max_new_tokens, spec, [base.sampling])
            found = comparison.sweep(axes, base, setup, out, console.generating(meter))
            measured = _measure(found, given, judge, embedder, meter)
    _show(found, measured)


def tune(
    expert: options.ExpertFolder,
    real: options.Real,
    out: Folder,
    budget: Annotated[
        str, typer.Option(metavar="TIME", help="How long to search, such as 90s, 20m or 2h.")
    ] = "20m",
    method: Annotated[
        str, typer.Option(metavar="NAME", help="Whose settings: steer, nucleus, cfg, ...")
    ] = "steer",
    trials: Annotated[int | None, typer.Option(min=1, help="How many at most.")] = None,
    n: Annotated[int, typer.Option("--n", help="Records of each trial.")] = 64,
    test: Test = None,
    judge: options.Judge = None,
    towards: options.Towards = None,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    max_new_tokens: options.MaxNewTokens = None,
    embedder: options.Embedder = None,
    seed: options.Seed = 0,
    engine: options.EngineOption = "hf",
    rows: options.Rows = None,
    dtype: options.DTypeOption = "auto",
    device: options.Device = "auto",
    gpus: options.Gpus = 1,
) -> None:
    """Search for the settings that suit your texts: fidelity, diversity, coherence, copying."""
    with console.on_stop(f"the finished trials are in {out}; the same command continues"):
        from steer.cli import tables as views
        from steer.experiments import tuning

        settings = tuning.TuneSettings(
            budget=tuning.parse_budget(budget),
            trials=trials,
            n=n,
            seed=seed,
            judges=tuple(judge or ()),
            embedder=embedder,
        )
        given = _Given(expert, real, test, towards, (text_column, label_column), seed)
        spec = given.spec(engine, rows, dtype, device, gpus)
        with console.Meter() as meter:
            meter.update("loading")
            setup = given.setup(n, max_new_tokens, spec)
            shown = console.tuning(meter)
            found = tuning.tune(
                method, setup, given.test, given.real, out, settings=settings, on_progress=shown
            )
    views.show_tuning(found, tuning.command(found))
    print(f"written: {out / 'tuning.json'}")


def report(
    comparison: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER|RUN...", help="A comparison or a sweep, or some runs."),
    ],
    real: options.Real,
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="File to write.")],
    mask: Annotated[
        bool | None,
        typer.Option(
            "--mask/--no-mask",
            help="Show the first letters of words only. (default: for the task comments)",
        ),
    ] = None,
    records: Annotated[int, typer.Option(min=0, help="Records of each method to read.")] = 50,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    seed: options.Seed = 0,
) -> None:
    """Write one HTML page: tables, figures and texts. It opens offline."""
    with console.on_stop(f"{out} was not written"):
        from steer.report.report import ReportSettings, write_report

        for folder in comparison:
            if not folder.is_dir():
                raise SteerError(f"there is no folder {folder}; name a comparison or a run")
        options.new_file(out)
        source = comparison[0] if len(comparison) == 1 else comparison
        corpus = load_corpus(real, text_column, label_column)
        settings = ReportSettings(mask=mask, records=records, seed=seed)
        with console.Meter() as meter:
            meter.update("loading")
            shown = console.evaluating(meter)
            write_report(source, corpus, out, settings=settings, on_progress=shown)
    print(f"written: {out}")


def methods() -> None:
    """List the ways to decode, and what each sets."""
    from steer.cli import tables as views

    views.show_methods(METHODS)


class _Given:
    """The expert and the texts that were named, loaded; a mistake shows before a model loads."""

    def __init__(
        self,
        expert: Path,
        real: str,
        test: str | None,
        towards: str | None,
        columns: tuple[str | None, str | None],
        seed: int,
    ) -> None:
        from steer.data.catalog import load_texts
        from steer.models.fitting import Expert

        self.expert, self.seed = Expert.load(expert), seed
        self.real = load_texts(self.expert.task, real, *columns)
        self.test = load_texts(self.expert.task, test, *columns) if test else self.real
        self.towards = load_corpus(towards, columns[0]) if towards else None

    @property
    def labelled(self) -> bool:
        return bool(self.expert.labels)

    def spec(
        self, engine: str, rows: int | None, dtype: str, device: str, gpus: int
    ) -> "EngineSpec":
        from steer.engines.choice import EngineSpec

        base, adapter = self.expert.base, self.expert.path
        return EngineSpec(base, adapter, engine, rows, dtype, device, gpus)

    def setup(
        self,
        n: int,
        max_new_tokens: int | None,
        spec: "EngineSpec",
        samplings: Sequence[Sampling] = (),
    ) -> "Setup":
        """What all runs share, with the engine loaded, which must know all `samplings`."""
        from steer.experiments.comparison import Setup, spread

        for sampling in samplings:
            spec.require(sampling)
        engine = spec.load()
        return Setup(
            self.real,
            self.expert,
            engine,
            spread(n, self.expert.labels),
            self.expert.max_completion_tokens if max_new_tokens is None else max_new_tokens,
            seed=self.seed,
            towards=self.towards,
            command=shlex.join(["steer", *sys.argv[1:]]),
            expert_path=str(self.expert.path),
        )


def _measure(
    found: "Comparison",
    given: _Given,
    judge: list[str] | None,
    embedder: str | None,
    meter: console.Meter,
) -> "Evaluation":
    from steer.evaluation.settings import EvaluationSettings
    from steer.experiments.comparison import evaluate_comparison, utility

    task = given.expert.task
    settings = EvaluationSettings(
        seed=given.seed,
        embedder=embedder,
        judges=tuple(judge or ()),
        prompt=task.prompt,
        utility=utility(task),
    )
    shown = console.evaluating(meter)
    return evaluate_comparison(found, given.test, given.real, settings, shown)


def _show(found: "Comparison", measured: "Evaluation") -> None:
    from steer.cli import tables as views

    views.show_evaluation(measured)
    views.show_comparison(found)
    print(f"written: {found.folder}; steer report {found.folder} makes a page of it")

"""`steer generate`: from its options to one call of `steer.runs.launch.launch`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steer.cli import options, parsing
from steer.cli import progress as console
from steer.cli.groups import with_groups
from steer.cli.reading import ReadingOptions
from steer.config import RunConfig
from steer.errors import SteerError
from steer.methods import CANDIDATES

if TYPE_CHECKING:
    from steer.runs.budget import Budget
    from steer.runs.store import Run

SPENT = 3
"""Exit code when the attempts were used up before all records were accepted."""

_EXAMPLES = (
    "Example: [b]steer generate expert --real hypotheses.jsonl --n 500 --out run[/b]\n\n"
    "100 more: [b]steer generate expert --real hypotheses.jsonl --n 600 --out run[/b]\n\n"
    "What it would take: [b]steer generate expert --real hypotheses.jsonl --n 5000 --out run "
    "--dry-run[/b]\n\n"
    "On eight GPUs: [b]steer generate expert --real hypotheses.jsonl --n 500000 "
    "--out s3://bucket/run --ray auto --workers 8 --lag 16[/b]"
)
_run = RunConfig(n=1)
_OF_METHOD = (
    *("gamma", "eta", "rho", "alpha", "weights", "temperature", "top_k", "top_p", "min_p"),
    *("panel_size", "panel_form", "panel_selection"),
)
_OF_RUN = (
    *("n", "seed", "rows_per_panel", "round_size", "lag"),
    *("pattern", "min_chars", "near", "max_attempts", "candidates", "selector", "shaped"),
    "end_bias",
)


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog=_EXAMPLES)(with_groups(generate))


def generate(
    context: typer.Context,
    expert: options.ExpertFolder,
    real: options.Real,
    out: Annotated[
        str,
        typer.Option(
            metavar="RUN", help="The run, new or stopped: a folder, or such as s3://bucket/run."
        ),
    ],
    n: Annotated[
        int | None, typer.Option(help="Records wanted. A run, finished or not, may grow to more.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=N", help="Records wanted with a label; once for each."),
    ] = None,
    balance: Annotated[
        bool,
        typer.Option(
            "--balance", help="Instead of counts: fill every label of REAL up to the largest."
        ),
    ] = False,
    budget: options.TimeBudget = None,
    max_tokens: options.TokenBudget = None,
    dry_run: options.DryRun = False,
    seed: options.Seed = _run.seed,
    method: options.UsualMethod = None,
    gamma: options.Gamma = None,
    eta: options.Eta = None,
    rho: options.Rho = None,
    towards: options.Towards = None,
    alpha: options.Alpha = None,
    weights: options.WeightsOption = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    max_new_tokens: options.MaxNewTokens = None,
    panel_size: options.PanelSize = None,
    rows_per_panel: options.RowsPerPanel = _run.rows_per_panel,
    panel_form: options.PanelFormOption = None,
    panel_selection: options.PanelSelection = None,
    round_size: options.RoundSize = _run.round_size,
    candidates: options.Candidates = CANDIDATES,
    selector: options.SelectorName = None,
    pattern: options.Pattern = None,
    min_chars: options.MinChars = None,
    shaped: options.Shaped = _run.shaped,
    end_bias: options.EndBias = _run.end_bias,
    forbid: options.Forbid = None,
    near: options.Near = _run.near,
    max_attempts: options.MaxAttempts = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where the expert's base model is now, if elsewhere.",
            rich_help_panel=options.SPEED,
        ),
    ] = None,
    engine: options.EngineOption = "hf",
    rows: options.Rows = None,
    dtype: options.DTypeOption = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    lag: options.Lag = _run.lag,
    ray: options.Ray = None,
    workers: options.Workers = None,
    gpus: options.Gpus = 1,
    *,
    reading: ReadingOptions,
) -> None:
    """Generate records until N are accepted; the same command continues a stopped run, and a
    larger N makes more of a finished one."""
    kept = f"the finished rounds are in {out}; the same command continues"
    with console.on_stop("a dry run makes nothing" if dry_run else kept):
        from steer.cli import tables

        run = _make(context.params, reading)
        if run is None:
            return
    tables.show_outcome(run)
    if not run.complete:
        raise typer.Exit(SPENT)


def _make(given: Mapping[str, Any], reading: ReadingOptions) -> "Run | None":
    """Makes the run that the options, by the names of the command's parameters, ask for; a dry run
    only says what it would take."""
    from steer.cli import tables
    from steer.engines.choice import EngineSpec
    from steer.models.expert import Expert
    from steer.runs.balance import balancing
    from steer.runs.cluster import Cluster
    from steer.runs.launch import foresee, launch

    if given["workers"] is not None and given["ray"] is None:
        raise SteerError("--workers needs --ray; give --ray local for workers on this machine")
    expert = Expert.load(given["expert"])
    machine = {name: given[name] for name in ("rows", "dtype", "device", "gpus", "threads")}
    spec = EngineSpec(given["base"] or expert.base, expert.path, given["engine"], **machine)
    counts = parsing.label_counts(given["label"] or [])
    if given["balance"]:
        parsing.alone("--balance", {"--n": given["n"], "--label": counts})
        if not expert.labels:
            raise SteerError("--balance fills labels up, but the expert was fitted without any")
        counts = dict.fromkeys(expert.labels, 1)  # those to come are in the texts
    config = _config(given, counts, bool(expert.labels))
    # A mistake shows before the texts are read.
    spec.require(config.sampling)
    texts = reading.load_for(expert.task, given["real"])
    if given["balance"]:
        config = _config(given, balancing(texts), bool(expert.labels))
    towards, forbid = (
        reading.load_without_labels(given[name], expert.task.shape) if given[name] else None
        for name in ("towards", "forbid")
    )
    what = (config, texts, expert, spec, parsing.run_place(given["out"]))
    with console.Meter() as meter:
        meter.update("loading")
        if given["dry_run"]:
            tables.show_forecast(foresee(*what, towards=towards))
            return None
        return launch(
            *what,
            console.generating(meter),
            towards=towards,
            forbid=forbid,
            budget=_budget(given),
            cluster=Cluster(given["ray"], given["workers"] or 1) if given["ray"] else None,
        )


def _budget(given: Mapping[str, Any]) -> "Budget | None":
    from steer.runs.budget import Budget, parse_budget

    seconds, tokens = given["budget"], given["max_tokens"]
    if seconds is None and tokens is None:
        return None
    return Budget(None if seconds is None else parse_budget(seconds), tokens)


def _config(given: Mapping[str, Any], counts: Mapping[str, int], labelled: bool) -> RunConfig:
    from steer.methods import adjust, find_method, usual_method

    chosen = parsing.given({name: given[name] for name in _OF_METHOD})
    name = given["method"] or usual_method(chosen)
    named = find_method(name, labelled)
    settings = {name: given[name] for name in _OF_RUN}
    settings["labels"] = dict(counts)
    return adjust(named, name, chosen).configure(settings, given["max_new_tokens"])

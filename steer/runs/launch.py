"""Launching a run: all that `steer generate` does once its options are read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.errors import SteerError
from steer.models.base import DTYPES, INT8, pick_device
from steer.models.expert import Expert
from steer.models.machine import computes, cpus
from steer.models.prompts import require_turns
from steer.runs.asking import chats_for
from steer.runs.budget import Budget, BudgetSpent
from steer.runs.cluster import Cluster, generate_on_ray
from steer.runs.forecast import Forecast, forecast
from steer.runs.generation import RunProgress, complete_config, finished, generate
from steer.runs.sources import Inputs
from steer.runs.store import Run, begun_with


def launch(
    config: RunConfig,
    real: Corpus,
    expert: Expert,
    spec: EngineSpec,
    out: Path | str,
    on_progress: Callable[[RunProgress], None] | None = None,
    *,
    towards: Corpus | None = None,
    forbid: Corpus | None = None,
    cluster: Cluster | None = None,
    budget: Budget | None = None,
) -> Run:
    """Generates a run as `steer.generate` does, in this process or by the workers of a Ray
    `cluster`. An engine is loaded from `spec` if there is anything left to make.

    A run that is continued computes with the dtype and the threads that it was begun with, as far
    as this machine has them. `spec` may name others. Where the `budget` is spent before all records
    are there, the run is returned as far as it is. Raises `SteerError` also for a sampling that
    the engine does not know, and when the engine cannot be loaded.
    """
    spec.require(config.sampling)
    if expert.task.chats:
        require_turns(real)
    config = complete_config(config, expert, out)
    extra = {"towards": towards, "forbid": forbid}
    run = finished(config, real, expert, spec.name, out, **extra)
    if run is not None:
        return run
    spec = as_begun(spec, out)
    if budget is not None:
        on_progress = budget.watched(on_progress or (lambda _: None))
    try:
        if cluster is not None:
            return generate_on_ray(config, real, expert, spec, out, cluster, on_progress, **extra)
        return generate(config, real, expert, spec.load(), out, on_progress, **extra)
    except BudgetSpent:
        return Run.open(out)


def foresee(
    config: RunConfig,
    real: Corpus,
    expert: Expert,
    spec: EngineSpec,
    out: Path | str,
    *,
    towards: Corpus | None = None,
) -> Forecast:
    """Forecasts what `launch` would take with an engine in this process, and makes nothing. Raises
    `SteerError` as `launch` does, and for panels that are selected by embeddings."""
    config = complete_config(config, expert, out)
    spec.require(config.sampling)
    if config.panel_selection != "random":
        raise SteerError("a dry run knows random panels only; leave --panel-selection out")
    engine = as_begun(spec, out).load()
    begun = Run.open(out) if begun_with(out) else None
    inputs = Inputs(
        real,
        towards,
        expert,
        engine,
        None,
        chats=chats_for(real, expert, engine),
        towards_chats=chats_for(towards or real, expert, engine),
    )
    return forecast(config, inputs, engine, begun)


def as_begun(spec: EngineSpec, out: Path | str) -> EngineSpec:
    """Completes `spec` with the dtype and the threads that the run at `out` was begun with, where
    it leaves them open and this machine has them; `spec` as it is where there is no run."""
    known = begun_with(out)
    if known is None:
        return spec
    begun = known[1]
    threads, dtype = spec.threads, spec.dtype
    if threads is None and begun.threads is not None and begun.threads <= cpus():
        threads = begun.threads
    if dtype == "auto" and begun.dtype in DTYPES:
        named = DTYPES[begun.dtype]
        dtype = begun.dtype if computes(named, pick_device(spec.device)) else dtype
    if dtype == "auto" and begun.dtype == INT8 and pick_device(spec.device).type == "cpu":
        dtype = INT8
    return replace(spec, threads=threads, dtype=dtype)

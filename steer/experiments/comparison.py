"""Comparison of methods, or settings of one, side by side: a run of each, and one evaluation of
all.

OUT/comparison.json       what was compared, and how it went
OUT/runs/NAME/            a run for each method or cell of the grid
OUT/evaluation.json       all of them measured against the same real texts
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter

from steer.config import Guidance, RunConfig
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.evaluation.evaluate import EvaluationProgress, evaluate
from steer.evaluation.settings import MIN_TEXTS, EvaluationSettings
from steer.evaluation.table import Evaluation
from steer.experiments.setup import Setup
from steer.files import check_format, read_regular, reading, write_json
from steer.methods import Method
from steer.runs.generation import RunProgress, generate, generate_together
from steer.runs.pool import Pool
from steer.runs.store import Run
from steer.values import check_values, short
from steer.version import __version__

FORMAT = 1
FEWEST = 0.75  # share of the records wanted; with fewer a method is left out of the evaluation
_FILE, _EVALUATION = "comparison.json", "evaluation.json"


@dataclass(frozen=True)
class Entry:
    """A method or cell of a comparison: where its run is, what distinguishes it, and how it went.
    `tokens` are those of all attempts, `seconds` the time it took; None for cells, which are made
    together."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    run: str
    settings: Mapping[str, Any]
    wanted: int
    accepted: int = 0
    attempts: int = 0
    tokens: int = 0
    seconds: float | None = None
    cell: Mapping[str, float] | None = None

    @property
    def short(self) -> bool:
        """Whether the entry has too few accepted records to be measured."""
        return self.accepted < max(FEWEST * self.wanted, MIN_TEXTS)

    def after(self, run: Run, seconds: float | None) -> "Entry":
        """Copies the entry, with what its run came to."""
        attempts = (*run.records, *run.rejects)
        return replace(
            self,
            accepted=len(run.records),
            attempts=len(attempts),
            tokens=sum(attempt.tokens for attempt in attempts),
            seconds=seconds,
        )


@dataclass(frozen=True)
class Comparison:
    """A comparison as `OUT/comparison.json` holds it; `grid` names the axes of a sweep."""

    folder: Path
    command: str
    expert: str
    task: Mapping[str, Any]
    entries: tuple[Entry, ...]
    grid: Mapping[str, str] | None = None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Reads the file that `write` wrote. Raises `SteerError` when there is none, or it is
        damaged."""
        path = folder / _FILE
        if not path.is_file():
            raise SteerError(f"{folder} is no comparison: there is no {path}; name another folder")
        with reading(path, "restore it, or compare again in another folder"):
            values = json.loads(read_regular(path))
            check_format(path, values, FORMAT)
            check_values(_KIND, values)
            entries = tuple(Entry(**entry) for entry in values["methods"])
            _check_entries(entries, values["grid"])
            return cls(
                folder, values["command"], values["expert"], values["task"], entries, values["grid"]
            )

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        values = {
            "format": FORMAT,
            "steer": __version__,
            "command": self.command,
            "expert": self.expert,
            "task": dict(self.task),
            "grid": self.grid,
            "methods": [asdict(entry) for entry in self.entries],
        }
        write_json(self.folder / _FILE, values)


class _Grid(BaseModel):
    """Names of the axes of a sweep."""

    x: str
    y: str


class _Content(BaseModel):
    """Content of `OUT/comparison.json`, whose format was checked."""

    command: str
    expert: str
    task: dict[str, Any]
    methods: list[Entry]
    grid: _Grid | None


_KIND = TypeAdapter(_Content)


def _check_entries(entries: Sequence[Entry], grid: Mapping[str, str] | None) -> None:
    """Raises `ValueError` where a name is there twice, a run is outside the folder, or a cell has
    no place in the grid."""
    axes = set(grid.values()) if grid else None
    for number, entry in enumerate(entries):
        if entry.name in {other.name for other in entries[:number]}:
            raise ValueError(f"the method {entry.name!r} is there twice")
        if Path(entry.run).is_absolute() or ".." in Path(entry.run).parts:
            raise ValueError(f"the run of {entry.name!r} is elsewhere: {short(entry.run)}")
        if (entry.cell is None) != (axes is None) or (entry.cell and set(entry.cell) != axes):
            raise ValueError(f"the cell of {entry.name!r} is {entry.cell!r}")


def compare(
    methods: Sequence[Method],
    setup: Setup,
    out: Path,
    on_progress: Callable[[Entry, RunProgress], None] | None = None,
) -> Comparison:
    """Makes a run of each method in the folder `out`, one after the other; a stopped comparison
    continues, and one that is there takes further methods in.

    Raises `SteerError` as `generate` does, and when `out` is something else.
    """
    configs = [method.configure(setup.shared, setup.max_new_tokens) for method in methods]
    _require_panels(configs, setup.pool)
    comparison = _start(out, setup, None)
    for method, config in zip(methods, configs, strict=True):
        entry = Entry(method.name, run_folder(method.name), method.settings, config.total)
        before = next((old for old in comparison.entries if old.name == entry.name), entry)
        began = time.monotonic()
        run = generate(
            config,
            setup.real,
            setup.expert,
            setup.engine,
            out / entry.run,
            lambda progress, entry=entry: on_progress and on_progress(entry, progress),  # type: ignore[misc]
            towards=setup.towards,
            forbid=setup.forbid,
        )
        new = sum(a.tokens for a in (*run.records, *run.rejects)) > before.tokens
        seconds = (before.seconds or 0.0) + (time.monotonic() - began if new else 0.0)
        comparison = _with(comparison, entry.after(run, round(seconds, 2)))
        comparison.write()
    return comparison


def _require_panels(configs: Sequence[RunConfig], pool: Pool) -> None:
    """Raises `SteerError` when a panel is too large, before the first method takes its time."""
    for config in configs:
        if config.guidance.eta:
            pool.require(config.panel_size, config.wanted)


def sweep(
    axes: Mapping[str, Sequence[float]],
    base: Method,
    setup: Setup,
    out: Path,
    on_progress: Callable[[RunProgress], None] | None = None,
) -> Comparison:
    """Makes a run of `base` for every combination of two settings of its guidance, such as gamma
    and eta, in the folder `out`; settings are mixed in the engine's batches. A stopped sweep
    continues.

    Raises `SteerError` as `generate` does, and when `out` is something else.
    """
    (x, xs), (y, ys) = axes.items()
    jobs: dict[Path, RunConfig] = {}
    entries: list[Entry] = []
    for cell in ({x: value, y: other} for other in ys for value in xs):
        method = base.model_copy(update={"guidance": _changed(base.guidance, cell)})
        config = method.configure(setup.shared, setup.max_new_tokens)
        name = " ".join(f"{key}={value:g}" for key, value in cell.items())
        entry = Entry(name, run_folder(name), method.settings, config.total, cell=cell)
        jobs[out / entry.run], entries = config, [*entries, entry]
    _require_panels(list(jobs.values()), setup.pool)
    comparison = _start(out, setup, {"x": x, "y": y})
    extra = {"towards": setup.towards, "forbid": setup.forbid}
    runs = generate_together(jobs, setup.real, setup.expert, setup.engine, on_progress, **extra)
    for entry, run in zip(entries, runs, strict=True):
        comparison = _with(comparison, entry.after(run, None))
    comparison.write()
    return comparison


def _changed(guidance: Guidance, cell: Mapping[str, float]) -> Guidance:
    return Guidance(**guidance.model_dump() | dict(cell))


def evaluate_comparison(
    comparison: Comparison,
    real: Corpus,
    train: Corpus,
    settings: EvaluationSettings,
    on_progress: Callable[[EvaluationProgress], None] | None = None,
) -> Evaluation:
    """Measures all methods against the `real` texts, and writes `OUT/evaluation.json`.

    A method that fell short of its records is left out, so that the others can be measured on as
    many texts as they have. Raises `SteerError` as `evaluate` does, and when every method is left
    out.
    """
    sets = {
        entry.name: Run.open(comparison.folder / entry.run)
        for entry in comparison.entries
        if not entry.short
    }
    if not sets:
        raise SteerError(
            f"no method in {comparison.folder} has {FEWEST:.0%} of its records, and {MIN_TEXTS}; "
            "nothing to measure: ask for more (--n), or choose other methods"
        )
    result = evaluate(sets, real, train=train, settings=settings, on_progress=on_progress)
    write_json(comparison.folder / _EVALUATION, result.to_json())
    return result


def utility(task: Task) -> str | None:
    """Question to a classifier trained on the records: their labels, or the answers."""
    if task.labels:
        return "labels"
    return "answers" if task.form == "question" else None


def _start(out: Path, setup: Setup, grid: Mapping[str, str] | None) -> Comparison:
    """Opens the comparison that is at `out`, or makes a new one."""
    task = setup.expert.task
    known = {"name": task.name, "form": task.form, "labels": list(task.labels)}
    new = Comparison(out, setup.command, setup.expert_path, known, (), grid)
    if not os.path.lexists(out) or (out.is_dir() and not os.listdir(out)):
        new.write()
        return new
    old = Comparison.open(out)
    if (old.grid, old.task) != (grid, known):
        raise SteerError(f"{out} is a comparison of another kind or task; choose another folder")
    return Comparison(out, setup.command, setup.expert_path, known, old.entries, grid)


def _with(comparison: Comparison, entry: Entry) -> Comparison:
    entries = {old.name: old for old in comparison.entries} | {entry.name: entry}
    return replace(comparison, entries=tuple(entries.values()))


def run_folder(name: str) -> str:
    """Folder of the run of a method or cell, in the comparison's folder."""
    return f"runs/{re.sub(r'[^A-Za-z0-9.=-]+', '_', name)}"

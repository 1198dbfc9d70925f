"""Plan of the study: its experts and its candidates.

WORK/experts/EXPERT               experts, fitted on the part `fit` of their cells
WORK/early/EXPERT/1-8, 1-4, 1-2   adapters as they were after an eighth, a quarter, half the steps
WORK/candidates/CELL/METHOD       candidates of a method, an ordinary run

Settings were chosen by the step `tuning`, on rows that no cell reads, as many for every family
(docs/study.md).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks.study.lab import Lab
from benchmarks.study.parts import Cell, load_part
from steer.data.catalog import load_task
from steer.engines.interface import Engine
from steer.experiments.comparison import run_folder
from steer.experiments.setup import spread
from steer.methods import find_method
from steer.models import fitting
from steer.models.expert import EpochLoss, Expert, FitSettings
from steer.models.training import FitProgress, OnFitProgress, Training
from steer.models.unfinished import Unfinished
from steer.runs.generation import generate
from steer.runs.store import Run

CANDIDATES = {"hypotheses": 300, "comments": 450, "commonsense": 450}
"""Candidates of a method and cell. A selector keeps one in three, at most half of the rows that are
reported on."""

CHEAP = "top-k:top_k=1000"
DEFAULT = "temperature:temperature=0.9"
STEERED = "steer:gamma=0.1:eta=0.2:alpha=0.001:temperature=0.9"
NUCLEUS, MIN_P = "nucleus:top_p=0.9", "min-p:min_p=0.001"
PROPOSALS = (NUCLEUS, STEERED, CHEAP, DEFAULT, MIN_P)
"""Methods whose candidates are corrected as well, so that there are three for a record."""

SEARCH, FEW_SHOT = "contrastive-search", "few-shot:top_p=0.9"
AS_USED = (
    "contrastive-decoding:alpha=0.001:gamma=0.1",
    "plain",
    "cfg:gamma=0.2:temperature=0.9",
    SEARCH,
    FEW_SHOT,
)
"""Methods that are measured as people use them alone, so a third of the candidates will do."""

METHODS = (*PROPOSALS, *AS_USED)
FEW_ACCEPTED = (SEARCH, FEW_SHOT)


def methods(task: str) -> tuple[str, ...]:
    """Methods of a task. Most questions of contrastive search are not of the form asked for, and
    few-shot comments and questions seldom end: both write hypotheses alone."""
    return tuple(name for name in METHODS if task == "hypotheses" or name not in FEW_ACCEPTED)


def wanted(task: str, name: str) -> int:
    """Number of candidates of a method in a cell of the task."""
    return CANDIDATES[task] // (3 if name in AS_USED else 1)


SHARES = (8, 4, 2)


def fit(work: Path, cell: Cell) -> None:
    """Fits the expert of the cell as `steer fit` does, keeping its adapter at `SHARES` of the
    steps."""
    out = work / "experts" / cell.expert
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = FitSettings(seed=int(cell.which == "b"))
    with _early_adapters(work / "early" / cell.expert):
        fitting.fit(load_part(work, cell, "fit"), load_task(cell.task), out, settings=settings)
    print(f"written: {out}", flush=True)


@contextmanager
def _early_adapters(out: Path) -> Iterator[None]:
    """Saves the adapter as it is on its way, in every `fit` within the block. Nothing in the
    package needs that, so the package has no way to ask for it."""

    run = Training.run

    def run_saving(
        training: Training, kept: Unfinished, report: OnFitProgress
    ) -> tuple[EpochLoss, ...]:
        waiting = [share for share in SHARES if not (out / f"1-{share}").exists()]

        def saving(progress: FitProgress) -> None:
            report(progress)
            while waiting and progress.step and progress.step >= progress.steps / waiting[0]:
                place = out / f"1-{waiting.pop(0)}"
                training.model.save_pretrained(place, save_embedding_layers=False)

        return run(training, kept, saving)

    with patch.object(Training, "run", run_saving):
        yield


def candidates(lab: Lab, names: Sequence[str]) -> None:
    """Makes the candidates of each method."""
    for name in names:
        run = make(lab, name)
        accepted, rejected = len(run.records), len(run.rejects)
        print(f"{lab.cell.name}, {name}: {accepted} accepted, {rejected} rejected", flush=True)


def make(lab: Lab, name: str) -> Run:
    """Makes, or goes on with, the candidates of one method."""
    return make_with(lab, name, lab.expert, lab.engine, pool(lab.work, lab.cell, name))


def make_with(
    lab: Lab,
    name: str,
    expert: Expert,
    engine: Engine,
    out: Path,
    number: int | None = None,
    seed: int | None = None,
) -> Run:
    """Makes at `out` the candidates that `expert`, which `engine` runs, has by a method: `number`,
    or as many as the plan says, with `seed`, or the cell's."""
    number = number or wanted(lab.cell.task, name)
    seed = lab.cell.seed if seed is None else seed
    method = find_method(name, bool(expert.labels))
    sizes = {"labels": spread(number, expert.labels)} if expert.labels else {"n": number}
    config = method.configure(sizes | {"seed": seed}, expert.max_completion_tokens)
    out.parent.mkdir(parents=True, exist_ok=True)
    return generate(config, lab.fit, expert, engine, out)


def pool(work: Path, cell: Cell, name: str) -> Path:
    """Folder of the candidates of a method."""
    return work / "candidates" / cell.name / Path(run_folder(name)).name

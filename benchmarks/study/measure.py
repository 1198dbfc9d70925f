"""Measures of the study: every selector with every proposal, against real texts that neither read.

WORK/measured/CELL.json: what each set of texts came to. All sets of a cell are measured against the
same real texts, and on equally many.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study.lab import Lab
from benchmarks.study.parts import Cell
from benchmarks.study.plan import AS_USED, CHEAP, METHODS, NUCLEUS, pool, wanted
from benchmarks.study.selecting import CORRECTED, RANDOM, SELECTORS, Task, taken
from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import evaluate
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.table import REAL as HALF
from steer.evaluation.table import Evaluation
from steer.files import write_atomic
from steer.models.packaged import GEMMA
from steer.runs.records import Record
from steer.runs.store import Run
from steer.seeds import derive

REAL = "real texts"
"""Half of the report's real texts, measured as a method is: what a perfect one would come to."""

CHARACTERS = "auroc_characters"
"""Detector that no selector knows anything of: logistic regression on character n-grams."""


def measured(work: Path, cell: Cell) -> Path:
    """File of what the sets of a cell came to."""
    return work / "measured" / f"{cell.name}.json"


def measure(lab: Lab) -> None:
    """Measures the proposals whose candidates are whole; those measured before are kept only if
    they are still all there are."""
    real, sets = lab.corpus("report"), chosen_sets(lab)
    path = measured(lab.work, lab.cell)
    if path.exists() and set(json.loads(path.read_bytes())["sets"]) == {REAL, *sets}:
        return
    found = evaluated(lab, sets, real.texts, lab.cell.seed)
    rows = {REAL if row.name == HALF else row.name: row.estimates for row in found.rows}
    values: dict[str, Any] = {
        "n": found.n,
        "notes": list(found.notes),
        "sets": {name: _json(rows[name]) for name in (REAL, *sets)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(values, indent=1) + "\n").encode())
    print(f"written: {path}", flush=True)


def evaluated(
    lab: Lab, sets: Mapping[str, Sequence[str]], real: Sequence[str], seed: int
) -> Evaluation:
    """Measures sets of texts against real ones."""
    settings = EvaluationSettings(judges=(GEMMA,), prompt=lab.prompt, mauve_seeds=0, seed=seed)
    return evaluate(sets, real, train=lab.fit.texts, settings=settings)


def _json(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {key: each.to_json() for key, each in estimates.items()}


def chosen_sets(lab: Lab) -> dict[str, list[str]]:
    """Chooses the texts of every selector and proposal, called "proposal / selector"."""
    real = lab.corpus("select").texts
    found: dict[str, list[str]] = {}
    for name in METHODS:
        records = candidates(lab, name)
        if not records:
            continue
        kept = len(records) // (1 if name in AS_USED else 3)
        task = Task(real, records, kept, derive(lab.cell.seed, "select", name))
        for selector in selectors(name):
            found[f"{name} / {selector}"] = taken(task, selector)
    return found


def selectors(name: str) -> tuple[str, ...]:
    """Selectors that are tried on the candidates of a method."""
    if name in AS_USED:
        return (RANDOM,)
    return tuple(SELECTORS) if name in (NUCLEUS, CHEAP) else (RANDOM, CORRECTED)


def candidates(lab: Lab, name: str) -> Sequence[Record]:
    """Reads the candidates of a proposal, as many as the plan says; none where they are not
    whole."""
    folder = pool(lab.work, lab.cell, name)
    run = Run.open(folder) if folder.exists() else None
    return run.records[: wanted(lab.cell.task, name)] if run and run.complete else ()

"""How hard to cut: temperatures and other cuts, beside what the first study chose, at random and
corrected.

Comments and questions have rows that no cell reads; hypotheses have none, so what is chosen here is
tried there unseen. WORK/tuning/CELL/METHOD holds candidates, WORK/tuning/CELL.json what they came
to, a mean over `DRAWS` draws, each against other real rows.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.study.lab import Lab
from benchmarks.study.measure import candidates, evaluated
from benchmarks.study.parts import Cell, cut, load_part
from benchmarks.study.plan import DEFAULT, PROPOSALS, make_with
from benchmarks.study.selecting import SELECTORS, Task, corrected, random
from steer.experiments.comparison import run_folder
from steer.files import write_atomic
from steer.runs.records import Record

CUTS = (
    DEFAULT,
    "temperature:temperature=0.8",
    "top-k:top_k=200",
    "min-p:min_p=0.003",
)
MOST = 300
DRAWS, SEED = 2, 7  # of the rows and of the candidates: seeds that no cell has
SHOWN = ("auroc", "auroc_characters", "vendi_1", "nonsense", "judge_gap", "summary")


def measure(lab: Lab, data: Path) -> None:
    """Makes and measures the candidates of a cell; nothing for one whose task has no other rows."""
    if lab.cell.task == "hypotheses" or lab.cell.seed:
        return
    made = {name: candidates(lab, name)[:MOST] for name in PROPOSALS[:2]}
    made |= {name: _made(lab, name) for name in CUTS}
    figures: dict[str, list[dict[str, float | None]]] = {}
    for draw, cell in enumerate(cells(lab.cell)):
        cut(data, lab.work, cell)
        real = load_part(lab.work, cell, "report").texts
        for row in evaluated(lab, _sets(lab, made, draw), real, draw).rows:
            values = {key: row.estimates[key].value for key in SHOWN}
            figures.setdefault(row.name, []).append(values)
    means = {name: _mean(found) for name, found in figures.items()}
    path = lab.work / "tuning" / f"{lab.cell.name}.json"
    write_atomic(path, (json.dumps(means, indent=1) + "\n").encode())
    for name, found in sorted(means.items(), key=lambda item: -item[1]["summary"]):
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))


def cells(cell: Cell) -> list[Cell]:
    """Cells of the same expert, of whose real rows no cell of the study reports on any."""
    seeds = range(SEED, SEED + DRAWS)
    return [replace(cell, name=f"{cell.name}-{seed}", seed=seed) for seed in seeds]


def _made(lab: Lab, name: str) -> Sequence[Record]:
    """Makes the candidates of a cut, or goes on with them."""
    other = Lab(lab.work, replace(lab.cell, seed=SEED))
    out = lab.work / "tuning" / lab.cell.name / Path(run_folder(name)).name
    return make_with(other, name, other.expert, other.engine, out, MOST).records


def _sets(lab: Lab, made: dict[str, Sequence[Record]], draw: int) -> dict[str, list[str]]:
    """Chooses a third of each, at random and corrected."""
    real = lab.corpus("select").texts
    return {
        f"{name} / {selector}": [records[row].text for row in choose(task)]
        for name, records in made.items()
        for task in [Task(real, records, len(records) // 3, draw)]
        for selector, choose in SELECTORS.items()
        if choose in (random, corrected)
    }


def _mean(found: Sequence[dict[str, float | None]]) -> dict[str, float]:
    values = {key: [each[key] for each in found] for key in SHOWN}
    return {key: round(float(np.mean(np.array(each, float))), 4) for key, each in values.items()}

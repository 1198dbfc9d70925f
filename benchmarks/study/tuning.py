"""Settings of every family, tried on comments and questions that no cell reads.

Hypotheses have no such rows, so what is chosen here is tried there unseen. WORK/tuning/CELL/METHOD
holds candidates, WORK/tuning/CELL.json what a random third came to, and what is left of those of
`CORRECTED_TOO` after correction: means over `DRAWS` draws, each against other real rows. The steps
`presets` (STEER's cut, temperature and gamma) and `defaults` (proposals of one stream) do so in
folders of their names.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.study.lab import Lab
from benchmarks.study.measure import evaluated
from benchmarks.study.parts import CELLS, Cell, cut, load_part
from benchmarks.study.plan import CHEAP, DEFAULT, FEW_SHOT, NUCLEUS, SEARCH, STEERED, make_with
from benchmarks.study.selecting import CORRECTED, RANDOM, Task, taken
from steer.experiments.comparison import run_folder
from steer.files import write_atomic
from steer.runs.records import Record

FAMILIES = {
    "temperature": ("plain", DEFAULT, "temperature:temperature=0.8"),
    "top-k": (CHEAP, "top-k:top_k=200", "top-k:top_k=50"),
    "nucleus": ("nucleus:top_p=0.97", "nucleus:top_p=0.95", NUCLEUS),
    "min-p": ("min-p:min_p=0.001", "min-p:min_p=0.003", "min-p:min_p=0.02"),
    "contrastive-decoding": (
        "contrastive-decoding:alpha=0.001:gamma=0.1",
        "contrastive-decoding:alpha=0.01:gamma=0.3",
        "contrastive-decoding",
    ),
    "cfg": ("cfg:gamma=0.1", "cfg:gamma=0.2:temperature=0.9", "cfg"),
    "steer": (
        STEERED,
        "steer:gamma=0.1:eta=0.2:alpha=0:temperature=0.9",
        "steer-positive:gamma=0:eta=0:rho=0.3:alpha=0:temperature=0.9",
    ),
    "contrastive-search": (
        SEARCH,
        "contrastive-search:penalty=0.6",
        "contrastive-search:candidates=8",
    ),
    "few-shot": ("few-shot", "few-shot:temperature=0.7", FEW_SHOT),
}
"""Families of settings, as many in each, the first study's among them."""

PRESETS = {
    "steer": (
        *(
            f"steer:gamma=0.1:eta=0.2:alpha={alpha}:temperature={temperature}"
            for temperature in (1, 0.9)
            for alpha in (0, 0.001)
        ),
        *(
            f"steer:gamma={gamma}:eta=0.2:alpha={alpha}:temperature=0.9"
            for gamma in (0.3, 1)
            for alpha in (0, 0.001)
        ),
    )
}
"""STEER at the product's strengths, with and without a cut and a lower temperature; and at greater
weights of the contrast, with and without a cut."""

DEFAULTS = {
    "temperature": (
        DEFAULT,
        "temperature:temperature=0.85",
        "temperature:temperature=0.9:min_p=0.001",
    ),
    "nucleus": (NUCLEUS, "nucleus:top_p=0.95:temperature=0.9"),
}
"""Proposals of one stream, all corrected: what the product's default could be."""

STEPS: dict[str, Mapping[str, Sequence[str]]] = {
    "tuning": FAMILIES,
    "presets": PRESETS,
    "defaults": DEFAULTS,
}

CORRECTED_TOO = {
    "tuning": ("temperature", "top-k", "steer"),
    "presets": ("steer",),
    "defaults": ("temperature", "nucleus"),
}
SLOW = ("contrastive-search", "few-shot")
"""Families of which most texts are not accepted, so no more are made than are measured."""

MOST, KEPT = 300, 100
DRAWS, SEED = 2, 7  # of the rows and of the candidates: a seed that no cell has
SHOWN = ("auroc", "auroc_characters", "vendi_1", "nonsense", "judge_gap", "summary")


def measure(lab: Lab, data: Path, step: str) -> None:
    """Makes and measures the candidates of a cell, of one of the `STEPS`; nothing for one whose
    task has no other rows, or which is not the task's first."""
    if lab.cell.task == "hypotheses" or lab.cell.place:
        return
    out, families = lab.work / step, STEPS[step]
    made = {
        name: _made(lab, name, out, KEPT if family in SLOW else MOST)
        for family, names in families.items()
        for name in names
    }
    figures: dict[str, list[dict[str, float | None]]] = {}
    for draw, cell in enumerate(cells(lab.cell)):
        cut(data, lab.work, cell)
        real = load_part(lab.work, cell, "report").texts
        for row in evaluated(lab, _sets(lab, step, made, draw), real, draw).rows:
            values = {key: row.estimates[key].value for key in SHOWN}
            figures.setdefault(row.name, []).append(values)
    means = {name: _mean(found) for name, found in figures.items()}
    write_atomic(out / f"{lab.cell.name}.json", (json.dumps(means, indent=1) + "\n").encode())
    for name, found in sorted(means.items(), key=lambda item: -item[1]["summary"]):
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in found.items()))


def cells(cell: Cell) -> list[Cell]:
    """Cells of the same expert, of whose real rows no cell of the study reports on any."""
    first = 1 + max(each.place for each in CELLS)
    return [replace(cell, seed=SEED + draw, place=first + draw) for draw in range(DRAWS)]


def _made(lab: Lab, name: str, out: Path, number: int) -> Sequence[Record]:
    """Makes the candidates of a setting, or goes on with them."""
    pool = out / lab.cell.name / Path(run_folder(name)).name
    run = make_with(lab, name, lab.expert, lab.engine, pool, number, SEED)
    print(f"{lab.cell.name}, {name}: {len(run.records)} accepted, {len(run.rejects)} rejected")
    return run.records


def _sets(
    lab: Lab,
    step: str,
    made: Mapping[str, Sequence[Record]],
    draw: int,
) -> dict[str, list[str]]:
    """Chooses `KEPT` of each, at random, and corrected where that is asked."""
    real = lab.corpus("select").texts
    found = {}
    for family, names in STEPS[step].items():
        for name in names:
            task = Task(real, made[name], KEPT, draw)
            for selector in (RANDOM, CORRECTED) if family in CORRECTED_TOO[step] else (RANDOM,):
                if len(task.candidates) >= KEPT:
                    found[f"{name} / {selector}"] = taken(task, selector)
    return found


def _mean(found: Sequence[dict[str, float | None]]) -> dict[str, float]:
    values = {key: [each[key] for each in found] for key in SHOWN}
    return {key: round(float(np.mean(np.array(each, float))), 4) for key, each in values.items()}

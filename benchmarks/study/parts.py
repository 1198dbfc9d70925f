"""Parts of the study: its real texts, cut so that no step shares a row with another.

A **cell** is one expert, one seed of its candidates, and the real rows that judge them. A task has
several, and no two report on the same row. Each has a folder of its parts:

WORK/data/CELL/fit.jsonl         the cell's expert is fitted on these, and panels are drawn of them
WORK/data/CELL/select.jsonl      what the selector reads
WORK/data/CELL/judge.jsonl       what the judge reads before a text
WORK/data/CELL/validation.jsonl  what the contrast is screened on
WORK/data/CELL/report.jsonl      what is reported on

Comments and questions: rows that the first study never read. There are 802 hypotheses, so two
experts are fitted, each on half of them, and the other half's rows select once and report once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steer.data.catalog import load_task
from steer.data.corpus import Corpus, load_corpus
from steer.data.reading.settings import Reading
from steer.files import write_atomic
from steer.seeds import derive

TASKS = ("hypotheses", "comments", "commonsense")
FIT, SELECT, JUDGE, VALIDATION, REPORT = 500, 300, 16, 200, 300
READ_BEFORE = 3800
"""Rows of comments and of questions, in the first study's order, that it may have read."""


@dataclass(frozen=True)
class Cell:
    """Cell of the study: the expert called `expert` makes its candidates with `seed`."""

    name: str
    task: str
    expert: str
    seed: int


CELLS = (
    Cell("hypotheses-a1", "hypotheses", "hypotheses-a", 0),
    Cell("comments-1", "comments", "comments", 0),
    Cell("commonsense-1", "commonsense", "commonsense", 0),
    Cell("hypotheses-b1", "hypotheses", "hypotheses-b", 0),
    Cell("hypotheses-a2", "hypotheses", "hypotheses-a", 1),
    Cell("comments-2", "comments", "comments", 1),
    Cell("commonsense-2", "commonsense", "commonsense", 1),
    Cell("hypotheses-b2", "hypotheses", "hypotheses-b", 1),
)
"""All cells, in the order in which they are made."""

Rows = Mapping[str, Sequence[int]]


def part(work: Path, cell: str, name: str) -> Path:
    """File of one part of a cell."""
    return work / "data" / cell / f"{name}.jsonl"


def cut(source: Path, work: Path, cell: Cell) -> None:
    """Cuts SOURCE/TASK.jsonl into the cell's parts, by a shuffle that is always the same."""
    lines = (source / f"{cell.task}.jsonl").read_text().splitlines()
    lines = [line for line in lines if json.loads(line)["text"].strip()]
    order = np.random.default_rng(derive(0, "study", cell.task)).permutation(len(lines)).tolist()
    rows = _folds(order, cell) if cell.task == "hypotheses" else _fresh(order, cell)
    for name, chosen in rows.items():
        path = part(work, cell.name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, "".join(f"{lines[row]}\n" for row in chosen).encode())


def _fresh(order: Sequence[int], cell: Cell) -> Rows:
    """Takes rows that the first study never read; cells differ in what they report on."""
    sizes = {"fit": FIT, "select": SELECT, "judge": JUDGE, "validation": VALIDATION}
    found, first = {}, READ_BEFORE
    for name, size in sizes.items():
        found[name] = order[first : first + size]
        first += size
    first += REPORT * cell.seed
    return found | {"report": order[first : first + REPORT]}


def _folds(order: Sequence[int], cell: Cell) -> Rows:
    """Fits on one half of the rows; of the other, one half selects and one reports, and the other
    cell of this expert has them the other way round. Nothing is left to validate on but what
    selects, which is read before candidates are."""
    judge, rest = order[:JUDGE], order[JUDGE:]
    halves = rest[::2], rest[1::2]
    fit, other = halves if cell.expert.endswith("a") else halves[::-1]
    pair = other[::2], other[1::2]
    select, report = pair if cell.seed == 0 else pair[::-1]
    return {
        "fit": fit,
        "select": select,
        "judge": judge,
        "validation": select,
        "report": report,
    }


def load_part(work: Path, cell: Cell, name: str) -> Corpus:
    """Loads the real texts of a part, with their labels where the task has labels."""
    labelled = "label" if load_task(cell.task).labels else None
    # One comment has a control character.
    reading = Reading(skip_control=True)
    return load_corpus(str(part(work, cell.name, name)), "text", labelled, reading)

"""Parts of the study: its real texts, cut so that no step shares a row with another.

A **cell** is one expert, one seed of its candidates, and the real rows that judge them. A task has
several, and no two report on the same row. Each has a folder of its parts:

WORK/data/CELL/fit.jsonl         the cell's expert is fitted on these, and panels are drawn of them
WORK/data/CELL/select.jsonl      what the selector reads
WORK/data/CELL/judge.jsonl       what the judge reads before a text
WORK/data/CELL/validation.jsonl  what the contrast is screened on
WORK/data/CELL/wide.jsonl        2,000 rows for the experts that read panels; not of hypotheses
WORK/data/CELL/report.jsonl      what is reported on

Comments and questions report on rows that no study has reported on, and that nothing was chosen by;
the other parts are of the rows that the first study read, an expert's own 500 to fit it on. There
are 802 hypotheses, so two experts are fitted, each on half of them, and the other half's rows
select once and report once.
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
FIT, SELECT, JUDGE, VALIDATION, WIDE, REPORT = 500, 300, 16, 200, 2000, 500
READ_BEFORE, REPORTED_BEFORE = 3800, range(4816, 5416)
"""Rows of comments and of questions, in the first study's order, that it may have read, and those
that the second reported on."""


@dataclass(frozen=True)
class Cell:
    """Cell of the study: the expert `which` of its task, "a" or "b", makes its candidates with
    `seed`. `place` says which of the task's parts to report on is the cell's."""

    task: str
    which: str
    seed: int
    place: int

    @property
    def name(self) -> str:
        return f"{self.expert}{self.seed + 1}"

    @property
    def expert(self) -> str:
        return f"{self.task}-{self.which}"


CELLS = tuple(
    Cell(task, which, seed, 2 * seed + (which == "b"))
    for seed in (0, 1)
    for which in ("a", "b")
    for task in TASKS
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
    """Fits each expert on rows of its own; cells differ in what they report on."""
    found, first = {}, 2 * FIT
    sizes = {"select": SELECT, "judge": JUDGE, "validation": VALIDATION, "wide": WIDE}
    for name, size in sizes.items():
        found[name] = order[first : first + size]
        first += size
    own = FIT * (cell.which == "b")
    new = [row for i, row in enumerate(order) if i >= READ_BEFORE and i not in REPORTED_BEFORE]
    report = new[REPORT * cell.place : REPORT * (cell.place + 1)]
    return found | {"fit": order[own : own + FIT], "report": report}


def _folds(order: Sequence[int], cell: Cell) -> Rows:
    """Fits on one half of the rows; of the other, one half selects and one reports, and the other
    cell of this expert has them the other way round. Nothing is left to validate on but what
    selects, which is read before candidates are."""
    judge, rest = order[:JUDGE], order[JUDGE:]
    halves = rest[::2], rest[1::2]
    fit, other = halves if cell.which == "a" else halves[::-1]
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

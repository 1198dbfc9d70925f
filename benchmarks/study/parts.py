"""Parts of the study: its real texts, cut into parts that no step shares with another.

WORK/data/TASK/fit.jsonl         the expert is fitted on these, and panels are drawn from them
WORK/data/TASK/judge.jsonl       the judges'
WORK/data/TASK/validation.jsonl  what settings are chosen on
WORK/data/TASK/report.jsonl      what is reported on
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steer.files import write_atomic
from steer.seeds import derive

PARTS = ("fit", "judge", "validation", "report")


@dataclass(frozen=True)
class Sizes:
    """Number of rows of each part."""

    fit: int
    judge: int
    validation: int
    report: int


SIZES = {
    "hypotheses": Sizes(382, 100, 120, 200),
    "comments": Sizes(2000, 400, 400, 1000),
    "commonsense": Sizes(2000, 400, 400, 1000),
}
TASKS = tuple(SIZES)


def part(work: Path, task: str, name: str) -> Path:
    """File of one part."""
    return work / "data" / task / f"{name}.jsonl"


def cut(source: Path, work: Path, task: str) -> None:
    """Cuts SOURCE/TASK.jsonl into the parts, by a shuffle of its lines that is always the same."""
    lines = (source / f"{task}.jsonl").read_text().splitlines()
    lines = [line for line in lines if json.loads(line)["text"].strip()]
    order = np.random.default_rng(derive(0, "study", task)).permutation(len(lines))
    first = 0
    for name in PARTS:
        rows = order[first : first + getattr(SIZES[task], name)]
        first += len(rows)
        path = part(work, task, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, "".join(f"{lines[row]}\n" for row in rows).encode())

r"""Two ideas for fewer passes, and the most that they could give: `python -m benchmarks.ideas`.

    make demo
    .venv/bin/python -m benchmarks.ideas --expert build/demo/made/expert \
        --real build/demo/real.jsonl

Both depend on what an expert writes, so they take a fitted one.

- *Skipping*: where the plausibility constraint leaves one token, the other streams do not matter.
  How often is that?
- *Speculation* (Leviathan et al. 2023, arXiv 2211.17192; of combined models, Fu et al. 2025, arXiv
  2502.01662): the expert alone draws a few tokens, the other streams read all of them at once, and
  those that STEER would have drawn are kept. How often does STEER draw the expert's token? That is
  at most the overlap of the two distributions; with the draws of this engine, which make a record
  the same however it is computed, it is how often both draw the same token from the same number.
  A cycle takes a step of the expert for each token, and one pass of the others over all of them.

Writes benchmarks/results/ideas-cpu.json, or ideas-cpu-avx2.json and so on without bf16 in hardware.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.command import require_place, run
from benchmarks.lab import Lab, prepare
from benchmarks.levers import step_seconds
from benchmarks.machine import machine, results_file
from benchmarks.ours import STEER, Endless
from benchmarks.table import Talk, keep
from steer.config import RunConfig, Sampling
from steer.data.corpus import load_corpus
from steer.engines.hf import engine as hf
from steer.engines.hf.engine import HFEngine
from steer.engines.scoring import Part, Rows
from steer.models.expert import Expert
from steer.runs.generation import generate


@dataclass(frozen=True)
class Plan:
    """Plan of the measurement: records to draw with the expert; rows and drafted tokens to time,
    with so many tokens a record."""

    records: int = 64
    rows: tuple[int, ...] = (1, 4, 64)
    drafted: tuple[int, ...] = (1, 2, 4, 8)
    tokens: int = 16


TINY = Plan(records=4, rows=(1, 2), drafted=(1, 2), tokens=6)


@dataclass
class Seen:
    """Sums over the tokens drawn: those that alone were plausible, the overlap of the expert's
    distribution with STEER's, and those that both draw from the same number."""

    tokens: int = 0
    single: float = 0
    overlap: float = 0
    same: float = 0

    def note(self, sampled: Rows, rows: slice, scores: Tensor, expert: Tensor) -> None:
        """Notes some rows' STEER `scores` and the `expert`'s log-probabilities, both (rows,
        tokens)."""
        out = scores == -torch.inf
        draft = expert.masked_fill(out, -torch.inf)
        self.tokens += len(scores)
        self.single += int(((~out).sum(dim=-1) == 1).sum())
        self.overlap += float(torch.minimum(draft.softmax(-1), scores.softmax(-1)).sum())
        tokens = (
            sampled.sampler(each, sampled.next_draws(rows), sampled.counts[rows])
            for each in (draft, scores)
        )
        self.same += int(torch.eq(*tokens).sum())

    def shares(self) -> dict[str, float]:
        """Shares of the tokens drawn."""
        return {name: getattr(self, name) / self.tokens for name in ("single", "overlap", "same")}


@contextmanager
def watching(seen: Seen) -> Iterator[None]:
    """Notes all that is scored."""
    score = Rows.score

    def noted(self: Rows, rows: slice, part: Part) -> Any:
        found = score(self, rows, part)
        seen.note(self, rows, found[0], found[1][0])
        return found

    with mock.patch.object(Rows, "score", noted):
        yield


def draw(expert: Expert, real: Path, records: int) -> Seen:
    """Notes what is seen while the expert makes `records` with the default guidance."""
    seen = Seen()
    sampling = Sampling(max_new_tokens=expert.max_completion_tokens)
    config = RunConfig(n=records, max_attempts=records, guidance=STEER, sampling=sampling)
    engine = HFEngine(expert.base, expert.path)
    with tempfile.TemporaryDirectory() as folder, watching(seen):
        generate(config, load_corpus(str(real)), expert, engine, Path(folder) / "run")
    return seen


def times(lab: Lab, plan: Plan, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measures milliseconds of a step of STEER, of the expert alone, and of the pass that checks
    its drafts: two other streams read `drafted` tokens of each row, timed as as many rows of one
    stream."""
    engine = Endless(lab.base, lab.adapter, device=lab.device)

    def step(side: str, rows: int) -> float:
        report(f"a step of {side} with {rows} rows")
        return 1000 * step_seconds(engine, lab, side, rows, plan.tokens)

    found = []
    for rows in plan.rows:
        whole, draft = step("steer", rows), step("plain", rows)
        for drafted in plan.drafted:
            with mock.patch.object(hf, "COPY_SHARE", 0.0):
                check = step("plain", 2 * rows * drafted)
            point = {"rows": rows, "drafted": drafted}
            found.append({**point, "steer": whole, "draft": draft, "check": check})
    return found


def gain(kept: float, time: dict[str, Any]) -> float:
    """Computes how many times as fast speculation would be when each drafted token is kept with
    probability `kept`: a cycle makes the kept ones, and instead of the first other one STEER's
    own."""
    made = sum(kept**number for number in range(time["drafted"]))
    cycle = time["drafted"] * time["draft"] + time["check"]
    return float(made * time["steer"] / cycle)


def measure(
    lab: Lab, expert: Expert, real: Path, plan: Plan, report: Callable[[str], None]
) -> dict[str, Any]:
    """Measures shares of the tokens, and what speculation would give by rows and drafted tokens."""
    report(f"{plan.records} records of the expert")
    shares = draw(expert, real, plan.records).shares()
    speculation = [
        {**time, "gain": gain(shares["same"], time), "gain_at_most": gain(shares["overlap"], time)}
        for time in times(lab, plan, report)
    ]
    return {"shares": shares, "speculation": speculation}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ideas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--expert", type=Path, required=True, help="a fitted expert")
    parser.add_argument("--real", type=Path, required=True, help="its real texts")
    parser.add_argument("--out", type=Path, default=results_file("cpu", "ideas"))
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)
    plan = TINY if options.model == "tiny" else Plan()
    report, where = Talk(console), machine("cpu")
    with tempfile.TemporaryDirectory() as folder:
        expert = Expert.load(options.expert)
        lab = prepare(Path(folder), options.model, "cpu")
        found = measure(lab, expert, options.real, plan, report)
    keep(options.out, found, where, plan, console)


if __name__ == "__main__":
    sys.exit(main())

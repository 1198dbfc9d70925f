"""Tokens a second as the work grows: `python -m benchmarks.curves`.

Writes a list of points a curve to benchmarks/results, named by what the processor can do:
curves-cpu.json where it computes in bf16, else curves-cpu-avx2.json or so; curves-gpu.json on CUDA.
The engine is timed alone, except for the last curve, where it is a stub: the round loop's own
time a record as a run grows.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import require_place, run
from benchmarks.lab import PROMPT, Lab, prepare, stand_in
from benchmarks.machine import machine, results_file
from benchmarks.ours import PLAIN, STEER, Ours
from benchmarks.pairs import Load, Side, timed
from benchmarks.table import Talk, keep
from steer.config import Guidance, RunConfig, Sampling
from steer.data.corpus import Corpus
from steer.engines.interface import Arithmetic, Completion, Request, Step
from steer.guidance import Stream, steer_streams
from steer.models.base import pick_device
from steer.runs.generation import RunProgress, generate

Point = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Plan of the points of each curve. Panels have `panel_tokens` tokens where they are not what
    varies, records `tokens`."""

    rows: tuple[int, ...] = (1, 4, 16, 64, 128, 256)
    panel_lengths: tuple[int, ...] = (0, 500, 1000, 2000, 4000)
    record_lengths: tuple[int, ...] = (16, 64, 256)
    panels: tuple[int, ...] = (1, 2, 8, 32, 64)
    records: int = 20_000
    batch: int = 64
    long_batch: int = 32
    panel_tokens: int = 300
    tokens: int = 32
    repeats: int = 1


TINY = Plan(
    rows=(1, 4),
    panel_lengths=(0, 100),
    record_lengths=(4, 8),
    panels=(1, 2),
    records=300,
    batch=4,
    long_batch=4,
    panel_tokens=50,
    tokens=4,
    repeats=1,
)


class Curves:
    """Measures curves, one a method: its points, in the order they are measured."""

    def __init__(self, lab: Lab, plan: Plan, report: Callable[[str], None]) -> None:
        self.lab, self.plan, self.report = lab, plan, report
        self.ours = Ours(lab)
        self.words = self._words()

    def rows(self) -> Iterator[Point]:
        """Curve against rows, steer and plain."""
        for rows in self.plan.rows:
            load = Load(rows, rows, self.plan.tokens)
            yield self._point("steer", load, rows=rows, panels=-(-rows // 32))
            yield self._point("plain", load, rows=rows)

    def panel_length(self) -> Iterator[Point]:
        """Curve against the panel's tokens; two panels for all rows."""
        load = Load(self.plan.batch, self.plan.batch, self.plan.tokens)
        for length in self.plan.panel_lengths:
            yield self._point("steer", load, panel_tokens=length, panels=2)
        yield self._point("plain", load, panel_tokens=0)

    def record_length(self) -> Iterator[Point]:
        """Curve against tokens a record."""
        for length in self.plan.record_lengths:
            load = Load(self.plan.long_batch, self.plan.long_batch, length)
            yield self._point("steer", load, tokens=length)
            yield self._point("plain", load, tokens=length)

    def panels(self) -> Iterator[Point]:
        """Curve against the number of panels that the rows share."""
        load = Load(self.plan.batch, self.plan.batch, self.plan.tokens)
        for panels in self.plan.panels:
            yield self._point("steer", load, panels=panels)

    def run_length(self) -> Iterator[Point]:
        """Curve of milliseconds a record in the round loop (panels, checks, store) with a stub
        engine."""
        self.report(f"a run of {self.plan.records} records with a stub engine")
        marks = [(0, time.perf_counter())]

        def listen(progress: RunProgress) -> None:
            if progress.attempts > marks[-1][0]:
                marks.append((progress.attempts, time.perf_counter()))

        config = RunConfig(n=self.plan.records, sampling=Sampling(max_new_tokens=8))
        stub = Stub(self.lab.corpus)
        expert = stand_in(PROMPT, stub.base_fingerprint)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            generate(config, self.lab.corpus, expert, stub, out, listen)
        for (before, began), (after, ended) in pairwise(marks):
            yield {"records": after, "milliseconds": 1000 * (ended - began) / (after - before)}

    def _point(
        self, side: str, load: Load, panel_tokens: int | None = None, panels: int = 1, **more: int
    ) -> Point:
        """Measures tokens a second of one setting, the median of the repeats. `more` names what
        varies."""
        length = self.plan.panel_tokens if panel_tokens is None else panel_tokens
        streams = self._streams(PLAIN if side == "plain" else STEER, load.records, panels, length)
        alpha = (PLAIN if side == "plain" else STEER).alpha
        timing = Side(
            side, lambda load: self.ours.complete(streams[: load.records], load, alpha), load
        )
        self.report(f"{side}: {load.rows} rows, {panels} panels of {length}, {load.tokens} tokens")
        timed(timing, replace(load, tokens=2))
        rates = [timed(timing, load).rate() for _ in range(self.plan.repeats)]
        varied = {
            "panel_tokens": length,
            "panels": panels,
            "rows": load.rows,
            "tokens": load.tokens,
        }
        return {"side": side, **varied, **more, "tokens_per_second": statistics.median(rates)}

    def _streams(
        self, guidance: Guidance, rows: int, panels: int, length: int
    ) -> list[tuple[Stream, ...]]:
        """Makes the streams of each row; neighbours share a panel."""
        contexts = [self._context(panel, length) for panel in range(panels)]
        return [
            steer_streams(guidance, PROMPT, contexts[row * panels // rows]) for row in range(rows)
        ]

    def _context(self, panel: int, length: int) -> str:
        """Makes a panel of about `length` tokens and the prompt, none the same as another's."""
        tokenizer = self.ours.engine.tokenizer
        start = (panel * 997) % max(1, len(self.words) - length)
        return str(tokenizer.decode(self.words[start : start + length])) + "\n" + PROMPT

    def _words(self) -> list[int]:
        tokenizer = self.ours.engine.tokenizer
        ids: list[int] = tokenizer(" ".join(self.lab.corpus.texts)).input_ids
        return ids


class Stub:
    """An engine of instant texts, all different, so that only the round loop takes time."""

    name = "stub"
    base_fingerprint = "stub"
    arithmetic = Arithmetic("float32", 1)

    def __init__(self, real: Corpus) -> None:
        self.words = sorted({word for text in real.texts for word in text.split()})

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        return [
            Completion(
                id=request.id,
                text=" " + " ".join(random.Random(request.seed).choices(self.words, k=15)),
                tokens=20,
                finish_reason="stop",
                log_probs={stream.name: -1.0 for stream in request.streams},
            )
            for request in requests
        ]


def measure(lab: Lab, plan: Plan, report: Callable[[str], None]) -> dict[str, list[Point]]:
    """Measures all curves, by name."""
    curves = Curves(lab, plan, report)
    return {
        "rows": list(curves.rows()),
        "panel_length": list(curves.panel_length()),
        "panels": list(curves.panels()),
        "record_length": list(curves.record_length()),
        "run_length": list(curves.run_length()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("--out", type=Path, help="results file")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    device = pick_device(options.device).type
    out = options.out or results_file(device, "curves")
    require_place(out)
    where = machine(device)
    plan = TINY if options.model == "tiny" else Plan()
    report = Talk(console)
    with tempfile.TemporaryDirectory() as folder:
        report("preparing texts, model and adapter")
        lab = prepare(Path(folder), options.model, device)
        points = measure(lab, plan, report)
    keep(out, points, where, plan, console)


if __name__ == "__main__":
    sys.exit(main())

"""Scaling: what many workers would ask of the driver: `python -m benchmarks.scaling`.

Writes benchmarks/results/scaling.json. Workers are real Ray processes with an engine that sleeps,
or simulated: then every round is there at once, and only the driver's own work takes time.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.lab import stand_in
from benchmarks.machine import machine, versions
from steer.config import RunConfig, Sampling
from steer.data import neardup
from steer.data.corpus import Corpus
from steer.engines.interface import Arithmetic, Completion, Request, Step
from steer.errors import SteerError
from steer.runs.cluster import Cluster, generate_on_ray
from steer.runs.generation import RunProgress, generate, run_rounds
from steer.runs.records import Record
from steer.runs.state import Inputs, Round, RunState

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
WORDS = tuple(
    a + b + c for a in "bcdfgklmnrst" for b in ("ala", "eme", "iti", "oro") for c in "nrtsl"
)
MEBIBYTE = 2**20
Point = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Sizes of the measurement: `workers` with an engine that sleeps `seconds` a record, for
    `sleeping` records; `simulated` workers, `rounds` rounds each; memory at each of `sizes`
    records. A round has `round_size`."""

    workers: tuple[int, ...] = (1, 2)
    seconds: float = 0.05
    sleeping: int = 1280
    simulated: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rounds: int = 40
    sizes: tuple[int, ...] = (100_000, 250_000, 500_000, 1_000_000)
    round_size: int = 256


QUICK = Plan(
    workers=(2,), sleeping=64, simulated=(1, 4), rounds=4, sizes=(5000, 20_000), round_size=32
)


EXPERT = stand_in("A line:", "stub", "stub")


def text(seed: int) -> str:
    """Writes nine words, some 60 characters; as good as never near to another."""
    return " ".join(random.Random(seed).choices(WORDS, k=9))


class Writer:
    """An engine that writes such texts and sleeps `seconds` for each."""

    name, base_fingerprint = "stub", "stub"
    arithmetic = Arithmetic("float32", 1)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        time.sleep(self.seconds * len(requests))
        log_probs = {"expert": -1.25, "base": -2.5, "negative": -1.5}
        return [Completion(r.id, " " + text(r.seed), 20, "stop", log_probs) for r in requests]


@dataclass(frozen=True)
class WriterSpec:
    """Settings by which a worker gets a `Writer`."""

    seconds: float
    device: str = "cpu"
    gpus: int = 1
    threads: int | None = None

    def load(self) -> Writer:
        return Writer(self.seconds)

    def adapter_fingerprint(self) -> str:
        return ""


class Simulated:
    """Crew of so many workers without processes. `seconds` and `cpu` are the time in them, which is
    not the driver's; what Ray would send is pickled, as the driver would have to."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.engine = Writer()
        self.taken: deque[tuple[RunState, Round, bytes]] = deque()
        self.seconds = self.cpu = 0.0

    def fits(self, loop: RunState, round: Round) -> bool:
        return len(self.taken) < self.workers

    def take(self, loop: RunState, round: Round) -> None:
        self.taken.append((loop, round, pickle.dumps(list(round.requests))))

    def wait(
        self, on_step: Callable[[Step], None]
    ) -> list[tuple[RunState, Round, list[Completion]]]:
        loop, round, sent = self.taken.popleft()
        began, cpu = time.perf_counter(), time.process_time()
        answer = pickle.dumps(self.engine.generate(pickle.loads(sent), Sampling()))
        self.seconds += time.perf_counter() - began
        self.cpu += time.process_time() - cpu
        return [(loop, round, pickle.loads(answer))]


class Growing:
    """A store whose rounds are made as they are read; notes the memory at each of `sizes`."""

    def __init__(self, sizes: Sequence[int], round_size: int) -> None:
        self.sizes, self.round_size = sizes, round_size
        self.process = psutil.Process()
        self.points: list[Point] = []

    def rounds(self) -> Iterator[list[Record]]:
        before, made = self.process.memory_info().rss, 0
        for size in self.sizes:
            while made < size:
                count = min(self.round_size, size - made)
                yield [record(number) for number in range(made, made + count)]
                made += count
            gained = self.process.memory_info().rss - before
            self.points.append({"records": made, "mebibytes": gained // MEBIBYTE})


def record(number: int) -> Record:
    return Record(
        id=f"rec:{number}",
        text=text(number),
        label=None,
        prompt="A line:",
        gamma=0.2,
        eta=0.2,
        alpha=0.002,
        weights="balanced",
        panel=(),
        seed=number,
        round=0,
        engine="stub",
        model="stub",
        adapter="stub",
        tokens=20,
        finish_reason="stop",
        log_probs={},
    )


def drawn(text: str) -> np.ndarray:
    """Draws numbers at random in place of a text's MinHash signature: as large, and quick."""
    generator = np.random.default_rng(hash(text) % 2**32)
    return generator.integers(2**32, size=neardup.PERMUTATIONS, dtype=np.uint64)


def real_texts() -> Corpus:
    return Corpus(texts=tuple(text(-row) for row in range(1, 1001)), labels=None, source="stub")


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Sets the variables until the block ends. The others stay as they are: Ray keeps some of its
    own state there, and without it the next cluster of this process loses its workers at once."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def sleeping(plan: Plan, report: Callable[[str], None]) -> list[Point]:
    """Measures records a second of real workers, from when all are there until the last round
    ends."""
    # Where workers find this module; and no yielding to other work on this machine.
    settings = {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    points = []
    for workers in plan.workers:
        report(f"{workers} workers whose engine sleeps {plan.seconds} s a record")
        with _environment(settings):
            marks = _marks(plan, workers)
        whole = [mark for mark in marks if mark[1].workers == workers]
        (began, first), (ended, last) = whole[0], whole[-1]
        rate = (last.attempts - first.attempts) / (ended - began)
        points.append({"workers": workers, "records_per_second": round(rate, 2)})
    return points


def _marks(plan: Plan, workers: int) -> list[tuple[float, RunProgress]]:
    """Notes the times and the progress of one run on Ray."""
    size = min(64, plan.round_size)
    config = RunConfig(n=plan.sleeping, round_size=size, lag=2 * max(plan.workers))
    spec, cluster = WriterSpec(plan.seconds), Cluster("local", workers)
    marks: list[tuple[float, RunProgress]] = []

    def note(progress: RunProgress) -> None:
        marks.append((time.perf_counter(), progress))

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        generate_on_ray(config, real_texts(), EXPERT, spec, out, cluster, note)
    return marks


def simulated(plan: Plan, report: Callable[[str], None]) -> list[Point]:
    """Measures rounds a second that the driver can plan, send, check and commit to a local disk."""
    points = []
    config = RunConfig(n=plan.rounds * plan.round_size, round_size=plan.round_size)
    for workers in plan.simulated:
        report(f"{workers} simulated workers")
        crew = Simulated(workers)
        more = config.model_copy(update={"lag": 2 * workers})
        with tempfile.TemporaryDirectory() as folder:
            began, cpu = time.perf_counter(), time.process_time()
            (run,) = run_rounds({Path(folder) / "run": more}, real_texts(), EXPERT, Writer(), crew)
            seconds = time.perf_counter() - began - crew.seconds
            cpu = time.process_time() - cpu - crew.cpu
            resumed = time.perf_counter()
            generate(more, real_texts(), EXPERT, Writer(), Path(folder) / "run")
            resumed = time.perf_counter() - resumed
        points.append(
            {
                "workers": workers,
                "lag": 2 * workers,
                "rounds_per_second": round(run.rounds / seconds, 2),
                "rounds_per_cpu_second": round(run.rounds / cpu, 2),
                "records_read_per_second_on_resume": round(len(run.records) / resumed),
            }
        )
    return points


def memory(plan: Plan, report: Callable[[str], None]) -> list[Point]:
    """Measures the driver's resident memory as a run of short records grows, in a process of its
    own: one that has let memory go before would not show what it takes again."""
    report(f"a run of up to {plan.sizes[-1]} records in memory")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, plan).result()


def _grow(plan: Plan) -> list[Point]:
    config = RunConfig(n=plan.sizes[-1] + 1, round_size=plan.round_size, lag=16)
    loop = RunState(config, Inputs(real_texts(), None, EXPERT, Writer(), None))
    store = Growing(plan.sizes, plan.round_size)
    with mock.patch.object(neardup, "signature", drawn):
        loop.start(store)  # type: ignore[arg-type]
    return store.points


def estimate(points: Sequence[Point], records: int) -> Point:
    """Estimates memory at `records`, along the line through the first and the last point."""
    first, last = points[0], points[-1]
    slope = (last["mebibytes"] - first["mebibytes"]) / (last["records"] - first["records"])
    found = last["mebibytes"] + slope * (records - last["records"])
    each = round(slope * MEBIBYTE)
    return {"records": records, "mebibytes": round(found), "bytes_per_record": each}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small: whether it runs at all")
    parser.add_argument("--out", type=Path, default=RESULTS / "scaling.json")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)
    plan = QUICK if options.quick else Plan()

    def report(said: str) -> None:
        console.print(f"{said} ...", highlight=False)

    sizes = memory(plan, report)
    found = {
        "machine": machine("cpu"),
        "versions": versions(),
        "settings": asdict(plan),
        "sleeping": sleeping(plan, report),
        "simulated": simulated(plan, report),
        "memory": sizes,
        "extrapolated": estimate(sizes, 10_000_000),
    }
    if any(after["mebibytes"] <= before["mebibytes"] for before, after in pairwise(sizes)):
        raise SteerError("the memory did not grow with the records; measure again")
    write_results(options.out, json.dumps(found, indent=2) + "\n")
    console.print(f"Written to {options.out}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())

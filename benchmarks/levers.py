"""Levers of the engine: what each gives, and where its time goes: `python -m benchmarks.levers`.

Each lever is turned off alone, and at last all together; the time of a decoding step is compared
with that of the engine as it is, in turns in one process. So are steps that leave a part of the
work out, whose tokens are wrong: no way of doing that part could be faster. Writes
benchmarks/results/levers-cpu.json, or levers-cpu-avx2.json and so on without bf16 in hardware.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from unittest import mock

from rich.console import Console
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.command import require_place, run
from benchmarks.lab import PROMPT, SEED, Lab, prepare
from benchmarks.machine import machine, results_file
from benchmarks.ours import PLAIN, STEER, Endless
from benchmarks.table import Talk, keep
from steer.config import Guidance, Sampling
from steer.engines import scoring
from steer.engines.hf import attention as hf_attention
from steer.engines.hf import engine as hf
from steer.engines.hf import lanes as hf_lanes
from steer.engines.hf import linear as hf_adapter
from steer.engines.hf import llama as hf_llama
from steer.engines.hf import model as hf_model
from steer.engines.hf import products as hf_products
from steer.engines.interface import Request, Step
from steer.guidance import steer_streams
from steer.models import machine as processor
from steer.models.base import pick_device
from steer.seeds import derive

AS_IT_IS, NONE = "as it is", "none of them"


@dataclass(frozen=True)
class Lever:
    """A part of the engine that can be turned off by patching `target` with `value`."""

    name: str
    target: Any
    attribute: str
    value: Any


LEVERS = (
    Lever("adapter added into the weights", hf, "COPY_SHARE", 0.0),
    Lever("our own pass", hf_model, "read_llama", lambda folder: None),
    Lever("weights packed", processor, "can_pack", lambda weight: False),
    Lever("weights of fp16 for few rows", processor, "can_halve", lambda weight: False),
    Lever("scoring some rows at a time", scoring, "CHUNK", 1 << 40),
    Lever("only plausible tokens scored", scoring.Rows, "narrows", lambda rows, some: False),
    Lever("kernels compiled", hf_llama, "kernels_for", lambda like: None),
    Lever("products compiled", hf_products, "_multiply", lambda weight: None),
    Lever("fused attention for few rows", hf_attention, "FUSED_ROWS", 0),
    Lever("short contexts in the lanes' own caches", hf_lanes, "SHORT", 0),
    Lever("contexts shared", hf_lanes.Bank, "_group", lambda bank: _each_alone(bank)),
)


def _each_alone(bank: Any) -> list[tuple[Any, slice]]:
    """Groups lanes as if no two had the same context."""
    return [(lane.context, slice(lane.index, lane.index + 1)) for lane in bank.lanes if lane.apart]


def _merged(joint: Any, x: Tensor) -> Tensor:
    return cast(Tensor, joint.merged(x))


def _unread(bank: Any, layer: int, q: Tensor, scaling: float) -> Tensor:
    return q.reshape(bank.count, -1).clone()


def _no_product(joint: Any, x: Tensor) -> Tensor:
    return x.new_zeros(*x.shape[:-1], joint.both.weight.shape[0])


# What a step would be if a part cost nothing.
FREE = (
    Lever("adapter", hf_adapter.Joint, "__call__", _merged),
    Lever("attention", hf_lanes.Bank, "_find", _unread),
    Lever("layers' products", hf_adapter.Joint, "__call__", _no_product),
)


@dataclass(frozen=True)
class Plan:
    """Plan of the measurement: rows, tokens of each record, repeats; and tokens under the profiler,
    whose memory grows with every operation."""

    rows: tuple[int, ...] = (1, 4, 64)
    tokens: int = 24
    repeats: int = 3
    profiled: int = 4


TINY = Plan(rows=(1, 2), tokens=6, repeats=1, profiled=3)
GUIDANCE = {"steer": STEER, "plain": PLAIN}
# Operators by what they are for; what is in none of them is "other".
PARTS = {
    "products with weights": ("linear", "addmm", "aten::mm"),
    "attention": ("scaled_dot_product", "bmm", "aten::_softmax", "aten::max", "index_copy"),
    "scoring and drawing": (
        "log_softmax", "topk", "sort", "cumsum", "gather", "searchsorted", "amax", "exp",
        "masked_fill",
    ),
}  # fmt: skip


@contextmanager
def without(levers: Sequence[Lever]) -> Iterator[None]:
    """Turns some levers of the engine off; an engine must be made inside."""
    with ExitStack() as stack:
        for lever in levers:
            stack.enter_context(mock.patch.object(lever.target, lever.attribute, lever.value))
        yield


def measure(lab: Lab, plan: Plan, report: Callable[[str], None]) -> dict[str, Any]:
    """Measures milliseconds of a step for every choice of levers, side and rows, and if a part were
    free; and the profiles."""
    off = {AS_IT_IS: (), **{lever.name: (lever,) for lever in LEVERS}, NONE: LEVERS}
    engines = {}
    for name, levers in off.items():
        with without(levers):
            engines[name] = Endless(lab.base, lab.adapter, device=lab.device)
    engines[AS_IT_IS].lane_model.merge(True)
    free = {part.name: (part,) for part in FREE}
    steps: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for repeat in range(plan.repeats):
        for name, levers in (off | free).items():
            report(f"repeat {repeat + 1} of {plan.repeats}, without: {name}")
            engine = engines.get(name, engines[AS_IT_IS])
            with without(levers):
                for side in GUIDANCE:
                    for rows in plan.rows:
                        found = step_seconds(engine, lab, side, rows, plan.tokens)
                        steps[name, side, rows].append(1000 * found)
    points = [
        {"off": name, "side": side, "rows": rows, "milliseconds": statistics.median(times)}
        for (name, side, rows), times in steps.items()
    ]
    profiles = []
    for name in (NONE, AS_IT_IS):
        with without(off[name]):
            for side in GUIDANCE:
                for rows in plan.rows:
                    report(f"profile of {side}, {rows} rows")
                    parts = profiled(engines[name], lab, side, rows, plan.profiled)
                    profiles.append({"levers": name, "side": side, "rows": rows} | parts)
    return {
        "steps": [point for point in points if point["off"] in off],
        "free": [point for point in points if point["off"] in free],
        "profiles": profiles,
    }


def step_seconds(engine: Endless, lab: Lab, side: str, rows: int, tokens: int) -> float:
    """Median seconds of a step; the first, which prefills, does not count."""
    ends: list[float] = []

    def note(_: Step) -> None:
        ends.append(time.perf_counter())

    _generate(engine, lab, GUIDANCE[side], rows, tokens, note)
    return statistics.median(after - before for before, after in pairwise(ends[1:]))


def profiled(engine: Endless, lab: Lab, side: str, rows: int, tokens: int) -> dict[str, float]:
    """Profiles the milliseconds of a step that operators take, by what they are for, summed over
    threads; and `python`, what is left of the time."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        began = time.perf_counter()
        _generate(engine, lab, GUIDANCE[side], rows, tokens, lambda _: None)
        wall = time.perf_counter() - began
    totals: dict[str, float] = dict.fromkeys((*PARTS, "other operators"), 0.0)
    for event in found.key_averages():
        names = (part for part, marks in PARTS.items() if any(m in event.key for m in marks))
        totals[next(names, "other operators")] += event.self_cpu_time_total / 1000 / tokens
    totals["python"] = max(0.0, 1000 * wall / tokens - sum(totals.values()))
    return totals


def _generate(
    engine: Endless,
    lab: Lab,
    guidance: Guidance,
    rows: int,
    tokens: int,
    on_step: Callable[[Step], None],
) -> None:
    panels = lab.panels(-(-rows // 32), "prompted")
    engine.rows = rows
    engine.may_merge = hf.COPY_SHARE > 0
    requests = [
        Request(
            row,
            steer_streams(guidance, PROMPT, panels[row // 32]),
            derive(SEED, "record", row),
            guidance.alpha,
        )
        for row in range(rows)
    ]
    engine.generate(requests, Sampling(max_new_tokens=tokens), on_step)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__)
    parser.add_argument("--out", type=Path, default=results_file("cpu", "levers"))
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)
    plan = TINY if options.model == "tiny" else Plan()
    report = Talk(console)
    device = pick_device("cpu").type
    where = machine(device)
    with tempfile.TemporaryDirectory() as folder:
        report("preparing texts, model and adapter")
        lab = prepare(Path(folder), options.model, device)
        found = measure(lab, plan, report)
    keep(options.out, found, where, plan, console)


if __name__ == "__main__":
    sys.exit(main())

"""Cost of linking the streams in vLLM: guided records against as many unlinked sequences that read
the same contexts with the same adapters, by a vLLM without our logits processor.

    .venv-vllm/bin/python -m benchmarks.vllm

Both sides run in turns in one process, and each pair of runs gives a ratio of steps a second.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.lab import PROMPT, SEED, Lab, prepare
from benchmarks.machine import machine, results_file, versions
from benchmarks.pairs import Ratio
from benchmarks.table import Talk
from steer.config import Guidance, Sampling
from steer.engines.interface import Request, Step
from steer.engines.vllm import engine as vllm
from steer.engines.vllm.engine import VLLMEngine
from steer.engines.vllm.generation import Generation
from steer.engines.vllm.processor import Link
from steer.engines.vllm.versions import installed
from steer.guidance import steer_streams
from steer.seeds import derive

ROWS_PER_PANEL = 32
TARGET = 0.9
CACHE = 1 << 30  # bytes, for each engine


@dataclass(frozen=True)
class Case:
    """Case to measure: records at a time, and whether their expert has an adapter. Without one the
    model is all that a step computes: vLLM's LoRA is slow on a CPU and hides what the links
    cost."""

    rows: int
    adapter: bool

    @property
    def name(self) -> str:
        return f"{self.rows} records, {'with' if self.adapter else 'no'} adapter"


@dataclass(frozen=True)
class Plan:
    """Plan of the measurement: cases, tokens of each record, and pairs of runs."""

    cases: tuple[Case, ...] = (Case(16, True), Case(32, False))
    tokens: int = 10
    repeats: int = 5


@dataclass(frozen=True)
class Run:
    """Time of a run: seconds of the whole, its prefill too, and of its median decoding step."""

    whole: float
    step: float

    @classmethod
    def of(cls, ends: Sequence[float], began: float) -> "Run":
        """Makes a run from `ends`, the clock at the steps' ends; the first step prefills."""
        steps = [after - before for before, after in pairwise(ends)]
        return cls(ends[-1] - began, statistics.median(steps))


def requests(lab: Lab, engine: VLLMEngine, rows: int) -> list[Request]:
    """Requests of STEER with its default settings; rows share panels as in a run."""
    panels = lab.panels(-(-rows // ROWS_PER_PANEL), "prompted")
    guidance = Guidance()
    return [
        Request(
            row,
            steer_streams(guidance, PROMPT, panels[row // ROWS_PER_PANEL]),
            derive(SEED, "record", row),
            guidance.alpha,
        )
        for row in range(rows)
    ]


def guided(engine: VLLMEngine, wanted: Sequence[Request], tokens: int) -> Run:
    """Runs our engine."""
    ends: list[float] = []

    def note(_: Step) -> None:
        ends.append(time.perf_counter())

    engine.rows = len(wanted)
    engine.llm.reset_prefix_cache()
    began = time.perf_counter()
    with mock.patch.object(Generation, "_params", _endless):
        made = engine.generate(wanted, Sampling(max_new_tokens=tokens), note)
    _require(sum(completion.tokens for completion in made), len(wanted) * tokens)
    return Run.of(ends, began)


def _endless(self: Generation, link: Link, of: Any = Generation._params) -> Any:
    """Lets no token end a record, as none ends the other side's."""
    params = of(self, link)
    params.stop_token_ids = []
    return params


def unlinked(engine: VLLMEngine, wanted: Sequence[Request], tokens: int) -> Run:
    """Runs vLLM's own loop and sampling, one sequence a stream."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    ids = {s.context: engine.encode(s.context) for r in wanted for s in r.streams}
    llm, ends, made = engine.llm, [], 0
    llm.reset_prefix_cache()
    began = time.perf_counter()
    for request in wanted:
        for number, stream in enumerate(request.streams):
            settings = SamplingParams(
                temperature=1.0,
                max_tokens=tokens,
                ignore_eos=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            llm.add_request(
                f"{request.id}.{number}",
                tokens_input(ids[stream.context]),
                settings,
                lora_request=engine.loras[0] if stream.adapter else None,
            )
    while llm.has_unfinished_requests():
        made += sum(len(output.outputs[0].token_ids) for output in llm.step())
        ends.append(time.perf_counter())
    _require(made, sum(len(request.streams) for request in wanted) * tokens)
    return Run.of(ends, began)


def _require(made: int, wanted: int) -> None:
    if made != wanted:
        raise RuntimeError(f"{made} tokens were made instead of {wanted}")


def load(lab: Lab, case: Case) -> tuple[VLLMEngine, VLLMEngine]:
    """Loads our engine, and one without the links."""
    adapter = lab.adapter if case.adapter else None
    with mock.patch.object(vllm, "CPU_CACHE", CACHE):
        ours = VLLMEngine(lab.base, adapter, rows=case.rows)
        with mock.patch.object(vllm, "LINKING", {}):
            return ours, VLLMEngine(lab.base, adapter, rows=case.rows)


def measure(lab: Lab, case: Case, plan: Plan, report: Callable[[str], None]) -> dict[str, Any]:
    """Measures the ratios, and the seconds of both sides' runs."""
    report(f"{case.name}: loading vLLM twice")
    ours, theirs = load(lab, case)
    wanted = requests(lab, ours, case.rows)
    guided(ours, wanted, 3)
    unlinked(theirs, wanted, 3)
    pairs: list[tuple[Run, Run]] = []
    for repeat in range(plan.repeats):
        report(f"{case.name}: repeat {repeat + 1} of {plan.repeats}")
        pairs.append((guided(ours, wanted, plan.tokens), unlinked(theirs, wanted, plan.tokens)))
    return {
        **asdict(case),
        "sequences": sum(len(request.streams) for request in wanted),
        "steps_ratio": asdict(Ratio.of([b.step / a.step for a, b in pairs])),
        "whole_ratio": asdict(Ratio.of([b.whole / a.whole for a, b in pairs])),
        "guided": [asdict(a) for a, _ in pairs],
        "unlinked": [asdict(b) for _, b in pairs],
        "restarts": ours.restarts,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vllm", description=__doc__)
    parser.add_argument("--out", type=Path, default=results_file("cpu", "vllm"))
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)
    plan = Plan()
    found: list[dict[str, Any]] = []
    used = versions() | {"vllm": installed()}
    settings = {"tokens": plan.tokens, "repeats": plan.repeats, "target_steps_ratio": TARGET}
    everything = {"cases": found, "machine": machine("cpu"), "versions": used, "settings": settings}
    with tempfile.TemporaryDirectory() as folder:
        lab, talk = prepare(Path(folder), None, "cpu"), Talk(console)
        for case in plan.cases:
            found.append(measure(lab, case, plan, talk))
            ratio = Ratio(**found[-1]["steps_ratio"])
            console.print(
                f"{case.name}, {found[-1]['sequences']} sequences: {ratio.median:.2f} of vLLM's "
                f"steps a second ({ratio.low:.2f} to {ratio.high:.2f})",
                highlight=False,
            )
    write_results(options.out, json.dumps(everything, indent=2) + "\n")
    console.print(f"Written to {options.out}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())

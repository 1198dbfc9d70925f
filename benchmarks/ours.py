"""Our side: the engine, alone and under the whole round loop with its checks."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.lab import PANEL_SIZE, PROMPT, SEED, Lab, stand_in
from benchmarks.pairs import Load, check_tokens
from steer.config import Guidance, RunConfig, Sampling
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Completion, Request, Step
from steer.guidance import steer_streams
from steer.runs.generation import RunProgress, generate
from steer.seeds import derive

STEER = Guidance()
PLAIN = Guidance(gamma=0, eta=0, alpha=0)


class Endless(HFEngine):
    """An engine whose records all have every token asked for, and count as finished."""

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        self.ends = torch.tensor([-1], device=self.model.device)
        made = super().generate(requests, sampling, on_step)
        return [replace(completion, finish_reason="stop") for completion in made]


class Ours:
    """The engine on the lab's model. Methods with a `Load` are the `run` of a `Side`."""

    def __init__(self, lab: Lab, engine: Endless | None = None) -> None:
        self.lab = lab
        self.engine = engine or Endless(lab.base, lab.adapter, device=lab.device)

    def steer(self, load: Load) -> float:
        """STEER: three streams, the whole round loop."""
        return self._run(STEER, load)

    def plain(self, load: Load) -> float:
        """Plain sampling from the expert, the whole round loop."""
        return self._run(PLAIN, load)

    def plain_one_copy(self, load: Load) -> float:
        """Plain sampling without the second copy of the weights, which has the adapter added in."""
        may_merge, self.engine.may_merge = self.engine.may_merge, False
        try:
            return self.plain(load)
        finally:
            self.engine.may_merge = may_merge

    def plain_engine(self, load: Load) -> float:
        """Plain sampling by the engine alone: no rounds, checks or files, as its peers have
        none."""
        prompts = [steer_streams(PLAIN, PROMPT, "")] * load.records
        return self.complete(prompts, load)

    def complete(self, streams: Sequence[tuple[Any, ...]], load: Load, alpha: float = 0.0) -> float:
        """Generates one record for each of `streams`, by the engine alone."""
        self.engine.rows = load.rows
        requests = [
            Request(id=row, streams=each, seed=derive(SEED, "record", row), alpha=alpha)
            for row, each in enumerate(streams)
        ]
        made = self.engine.generate(requests, Sampling(max_new_tokens=load.tokens))
        check_tokens(sum(completion.tokens for completion in made), load)
        return 0.0

    def _run(self, guidance: Guidance, load: Load) -> float:
        """Makes a run of one round or more, into a folder that is dropped. Everything generated
        counts, accepted or not."""
        self.engine.rows = load.rows
        config = RunConfig(
            n=load.records,
            max_attempts=load.records,
            guidance=guidance,
            sampling=Sampling(max_new_tokens=load.tokens),
            panel_size=PANEL_SIZE,
            seed=SEED,
        )
        expert = stand_in(PROMPT, self.engine.base_fingerprint)
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            generate(config, self.lab.corpus, expert, self.engine, out, clock)
        check_tokens(clock.tokens, load)
        return clock.start


class Clock:
    """Listens to a run: its tokens, and the seconds before its first decoding step."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.steps: list[float] = []
        self.tokens = 0

    def __call__(self, progress: RunProgress) -> None:
        # Progress is also told before the first token, and after the last.
        if progress.tokens > self.tokens:
            self.steps.append(time.perf_counter() - self.began)
        self.tokens = progress.tokens

    @property
    def start(self) -> float:
        """Start: seconds to the first step's end, less one step of average length."""
        steps = max(1, len(self.steps) - 1)
        return max(0.0, self.steps[0] - (self.steps[-1] - self.steps[0]) / steps)

"""Forecast of what a run will take, from its settings and a short trial of the engine."""

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from steer.config import RunConfig, Sampling
from steer.correction.selector import compared_by
from steer.engines.interface import Engine, Request, complete
from steer.runs.sources import Inputs
from steer.runs.state import RunState
from steer.runs.store import Run

PASSING = 0.8
"""Share of the attempts that are taken to pass, where nothing is known yet."""

_ROWS, _TOKENS = 32, 16


@dataclass(frozen=True)
class Forecast:
    """What is to come: `attempts` at records, `tokens` to write, `streams` read for each; `seconds`
    at the trial's pace, `memory` in bytes as the trial found it. `known` where the run's own rounds
    say how many attempts pass."""

    attempts: int
    tokens: int
    streams: int
    seconds: float
    tokens_per_second: float
    memory: int
    known: bool


def forecast(
    config: RunConfig, inputs: Inputs, engine: Engine, begun: Run | None = None
) -> Forecast:
    """Forecasts what is still to make of a run, `begun` or not, by letting the engine write the
    beginnings of a few records; they are thrown away."""
    # Nothing is corrected here: what a selector reads need not be loaded.
    state = RunState(config.model_copy(update={"candidates": 1}), inputs)
    round = state.next_round()
    requests: Sequence[Request] = ()
    if round is not None:
        state.begin(round)
        requests = round.requests[:_ROWS]
    prefill = _seconds(engine, requests, config.sampling, 1)
    whole = _seconds(engine, requests, config.sampling, 1 + _TOKENS)
    pace = len(requests) * _TOKENS / max(1e-6, whole - prefill)
    attempts, tokens = _to_come(config, inputs, begun)
    return Forecast(
        attempts=attempts,
        tokens=tokens,
        streams=max((len(request.streams) for request in requests), default=1),
        seconds=tokens / pace + prefill * attempts / max(1, len(requests)),
        tokens_per_second=pace,
        memory=_memory(),
        known=begun is not None and bool(begun.records),
    )


def _to_come(config: RunConfig, inputs: Inputs, begun: Run | None) -> tuple[int, int]:
    """Counts the attempts and tokens still to come."""
    length = inputs.expert.completion_tokens.mean
    # With too few real texts for a selector a run corrects nothing.
    candidates = config.candidates if compared_by(inputs.real.texts) else 1
    passing, missing = PASSING / candidates, config.total
    if begun is not None and begun.records:
        made = [*begun.records, *begun.rejects]
        length = sum(each.tokens for each in made) / len(made)
        passing = (len(begun.records) + begun.reasons.get("surplus", 0)) / len(made)
        missing -= len(begun.records)
    attempts = min(math.ceil(missing / passing), config.attempts)
    return attempts, round(attempts * min(length, config.sampling.max_new_tokens))


def _seconds(engine: Engine, requests: Sequence[Request], sampling: Sampling, tokens: int) -> float:
    """Times records of so many tokens at most."""
    if not requests:
        return 0.0
    began = time.monotonic()
    complete(engine, requests, Sampling(**dict(sampling) | {"max_new_tokens": tokens}))
    return time.monotonic() - began


def _memory() -> int:
    """Most memory that this process has had: of the GPU if it has used one, else its own."""
    import torch

    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return used
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

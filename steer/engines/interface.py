"""Requests and completions: the types that every engine takes and gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from steer.config import EndBias, Sampling
from steer.guidance import Stream
from steer.shapes import Shape

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Request:
    """One record to generate. `streams[0]` is the expert; `seed` alone decides the draws; alpha
    and `adaptive` are those of `steer.config.Guidance`. A completion has the `shape`, if any; all
    streams read the `end_bias`."""

    id: int
    streams: tuple[Stream, ...]
    seed: int
    alpha: float = 0.0
    adaptive: bool = False
    shape: Shape | None = None
    end_bias: EndBias = ()


def most_streams(requests: Sequence[Request]) -> int:
    """The most streams that one of `requests` has; 1 when there is none."""
    return max((len(request.streams) for request in requests), default=1)


@dataclass(frozen=True)
class Completion:
    """One generated record.

    `tokens` counts the generated tokens, the end of text included; `finish_reason` is "length"
    when `max_new_tokens` came first. `log_probs` is, for each stream by name, the mean
    log-probability (nats a token) that it gave to the generated tokens.
    """

    id: int
    text: str
    tokens: int
    finish_reason: FinishReason
    log_probs: Mapping[str, float]


@dataclass(frozen=True)
class Step:
    """Progress after one decoding step: tokens and completions so far in this call."""

    tokens: int
    finished: int


@dataclass(frozen=True)
class Arithmetic:
    """On what an engine's rounding depends, and so the last bits of its numbers: the dtype that it
    computes in, the threads that share a sum, None on a GPU, and whether some of its operations
    were compiled for this processor."""

    dtype: str
    threads: int | None = None
    compiled: bool = False


class Engine(Protocol):
    """Generates completions; batches, caches and replaces finished rows inside."""

    name: str
    base_fingerprint: str

    @property
    def arithmetic(self) -> Arithmetic:
        """How the loaded engine computes."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        """Generates completions in the order of `requests`.

        `on_step` may raise (Ctrl-C, a stop request): the engine stays usable.
        """
        ...


def complete(
    engine: Engine,
    requests: Sequence[Request],
    sampling: Sampling,
    on_step: Callable[[Step], None] | None = None,
) -> list[Completion]:
    """Generates completions in the order of `requests`, which are numbered anew: requests of
    several runs may have the same numbers."""
    numbered = [replace(request, id=number) for number, request in enumerate(requests)]
    completions = engine.generate(numbered, sampling, on_step)
    if [completion.id for completion in completions] != list(range(len(requests))):
        raise RuntimeError("the engine's completions are not in the order of the requests")
    return completions

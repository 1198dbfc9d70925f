"""A stub engine and expert, so that runs can be tested without a model."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.config import EndBias, Sampling
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.interface import Arithmetic, Completion, FinishReason, Request, Step

WORDS = tuple(first + last for first in "bcdfgklmnr" for last in ("alan", "emer", "itis"))

FIELDS: dict[str, Any] = {
    "id": "rec:3",
    "text": "naïve “text”\u2028with a line separator",
    "label": None,
    "prompt": "Write:",
    "gamma": 0.2,
    "eta": 0.1,
    "alpha": 0.0,
    "weights": "balanced",
    "panel": ("real:1", "rec:2"),
    "seed": 2**62 + 1,
    "round": 0,
    "engine": "stub",
    "model": "m",
    "adapter": "a",
    "tokens": 4,
    "finish_reason": "stop",
    "log_probs": {"expert": -1.25, "base": None, "negative": -2.0},
}
"""The fields of a record."""


def sentence(rng: random.Random, words: int = 9) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def corpus(texts: int = 30, labels: Sequence[str] = (), seed: int = 5) -> Corpus:
    rng = random.Random(seed)
    drawn = tuple(sentence(rng) for _ in range(texts))
    named = tuple(labels[row % len(labels)] for row in range(texts)) if labels else None
    return Corpus(texts=drawn, labels=named, source="stub")


@dataclass(frozen=True)
class StubExpert:
    labels: tuple[str, ...] = ()
    prompt: str = "Write a line:"
    base: str = "stub-base"
    base_fingerprint: str = "base0"
    adapter_fingerprint: str = "adapter0"
    path: Path = Path("stub-expert")
    end_bias: EndBias = ()

    @property
    def max_completion_tokens(self) -> int:
        return 128

    @property
    def task(self) -> Task:
        return Task(self.prompt, self.labels)


class StubEngine:
    """Texts that depend on the seed and on every stream's context: a wrong panel shows.

    About half are good; the others are cut off, empty, short, copies of a real text or almost,
    or repeat one of a few sentences or almost.
    """

    name = "stub"
    base_fingerprint = "base0"
    arithmetic = Arithmetic("float32", 1)

    def __init__(self, real: Corpus, pause: Callable[[], None] = lambda: None) -> None:
        self.real = real.texts
        self.pause = pause
        self.requests: list[Request] = []
        self.calls = 0

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        self.requests += requests
        self.calls += 1
        made: list[Completion] = []
        for request in requests:
            self.pause()
            made.append(self._complete(request))
            if on_step:
                on_step(Step(tokens=10 * len(made), finished=len(made)))
        return made

    def _complete(self, request: Request) -> Completion:
        rng = random.Random(f"{request.seed} {request.streams}")
        text, finish = self._text(rng)
        log_probs = {stream.name: -1.0 - rng.random() for stream in request.streams}
        return Completion(request.id, text, 10, finish, log_probs)

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        kind, chosen = rng.random(), sentence(random.Random(rng.randrange(5)))
        if kind < 0.4:
            chosen = rng.choice(self.real)
        if kind < 0.1:
            return rng.choice(["cut off here", "x"]), "length"
        if kind < 0.2:
            return rng.choice(["", " \n", "tiny"]), "stop"
        if kind < 0.5:
            return f" {chosen}{rng.choice(['', 's'])}\n", "stop"
        return f" {sentence(rng)}", "stop"

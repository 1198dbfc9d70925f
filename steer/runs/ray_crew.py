"""The workers of a run on a Ray cluster: what each is doing, and what follows when one is lost."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from steer.config import Sampling
from steer.engines.interface import Completion, Step
from steer.engines.worker import Loaded, Spec, Worker
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.runs.rounds import Round
from steer.runs.state import RunState

POLL_SECONDS = 1.0
"""How often progress is shown while no round ends."""

MOST_LOSSES = 10
"""So often a worker may be lost while it makes one round, or before it has loaded its model."""

HUNG_AFTER, LEAST_SECONDS = 10, 600.0
"""A worker hangs when its round takes so many times as long as the slowest one that was made, and
more than these seconds."""

log = logging.getLogger(__name__)


@dataclass
class _Hand:
    """A worker as the driver sees it: its process is there (`started`), with its model (`loaded`);
    `job` is the round it makes, `since` when it was given it, `hung` whether it was given up.
    `losses` counts how often it was lost while it loaded, without having loaded since."""

    actor: Any
    started: bool = False
    loaded: bool = False
    job: tuple[RunState, Round] | None = None
    since: float = 0.0
    hung: bool = False
    losses: int = 0

    @property
    def idle(self) -> bool:
        return self.loaded and self.job is None


Made = tuple[RunState, Round, list[Completion]]


class RayCrew:
    """Workers of a Ray cluster, which Ray starts, and starts again when they were lost.

    Each call of a worker stands in `_calls` with what is done with its answer.
    """

    def __init__(
        self, ray: Any, spec: Spec, workers: int, sampling: Sampling, expert: Expert
    ) -> None:
        self._ray, self._spec, self._sampling, self._expert = ray, spec, sampling, expert
        self._calls: dict[Any, tuple[_Hand, Callable[[_Hand, Any], Made | None]]] = {}
        self._waiting: deque[tuple[RunState, Round]] = deque()
        self._losses: Counter[int] = Counter()
        self._first: Loaded | None = None
        self._now = self._slowest = 0.0
        needs = _needs(ray, spec, workers)
        self._threads = None if "num_gpus" in needs else _threads(spec, int(needs["num_cpus"]))
        made = ray.remote(Worker).options(max_restarts=-1, **needs)
        self._hands = [_Hand(made.remote()) for _ in range(workers)]
        for hand in self._hands:
            self._start(hand)

    def first(self) -> Loaded:
        """Waits for the first worker that is ready, and gives its report on its engine."""
        while self._first is None:
            self._collect()
        return self._first

    @property
    def workers(self) -> int:
        return sum(hand.loaded and not hand.hung for hand in self._hands)

    def fits(self, run: RunState, round: Round) -> bool:
        return sum(hand.idle for hand in self._hands) > len(self._waiting)

    def take(self, run: RunState, round: Round) -> None:
        self._waiting.append((run, round))
        self._hand_out()

    def wait(self, on_step: Callable[[Step], None]) -> list[Made]:
        made = self._collect()
        self._hand_out()
        return made

    def _hand_out(self) -> None:
        idle = [hand for hand in self._hands if hand.idle]
        for hand, _ in zip(idle, list(self._waiting), strict=False):
            hand.job, hand.since = self._waiting.popleft(), self._now
            call = hand.actor.make.remote(hand.job[1].requests, self._sampling)
            self._calls[call] = hand, self._has_made

    def _collect(self) -> list[Made]:
        """Collects the rounds that ended; notes the workers that are ready, or lost."""
        began = time.monotonic()
        ended, _ = self._ray.wait(list(self._calls), timeout=POLL_SECONDS)
        # No more than was waited for: a machine that was suspended has not seen a worker hang.
        self._now += min(time.monotonic() - began, POLL_SECONDS)
        made = [self._answer(call) for call in ended]
        self._end_hung()
        return [each for each in made if each is not None]

    def _answer(self, call: Any) -> Made | None:
        """Does what stands in `_calls` for the answer to a call; returns the round that was made,
        if any."""
        hand, use = self._calls.pop(call)
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(call)
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, SteerError) else error from None
        except errors.RayError as error:  # the process, its machine, or what it had answered
            self._lost(hand, error)
            return None
        return use(hand, answer)

    def _start(self, hand: _Hand) -> None:
        # Ray retries this one call for as long as it takes to start the process again, on another
        # machine if need be. The others are not retried: a lost round is for whoever is free.
        hand.started = hand.loaded = hand.hung = False
        hand.job = None
        call = hand.actor.ready.options(max_task_retries=-1).remote()
        self._calls[call] = hand, self._has_started

    def _has_started(self, hand: _Hand, _: None) -> None:
        hand.started = True
        self._calls[hand.actor.load.remote(self._spec, self._threads)] = hand, self._has_loaded

    def _has_loaded(self, hand: _Hand, loaded: Loaded) -> None:
        self._check(loaded)
        hand.loaded, hand.losses = True, 0

    def _has_made(self, hand: _Hand, completions: list[Completion] | None) -> Made | None:
        if completions is None or hand.hung or hand.job is None:
            # Ray has started its process again while it was idle; or Ray is about to end it.
            self._lost(hand, "its process ended")
            return None
        self._slowest = max(self._slowest, self._now - hand.since)
        job, hand.job = hand.job, None
        return *job, completions

    def _end_hung(self) -> None:
        """Has Ray end the workers that hang; their rounds are then those of lost ones. How long a
        round takes nobody knows before one was made, so until then none hangs."""
        limit = max(LEAST_SECONDS, HUNG_AFTER * self._slowest)
        for hand in self._hands if self._slowest else ():
            if hand.job and not hand.hung and self._now - hand.since > limit:
                log.warning(
                    "a worker hangs: round %d takes more than %.0f seconds; another will make it",
                    hand.job[1].number,
                    limit,
                )
                hand.hung = True
                self._ray.kill(hand.actor, no_restart=False)

    def _lost(self, hand: _Hand, error: Exception | str) -> None:
        """Has the worker started again, and its round made by another one."""
        if not hand.started:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            if self._first is not None:
                raise SteerError(
                    f"the Ray cluster was lost, or its last machine ({last}); rounds that were "
                    "made are there: start Ray again, and then the same command"
                )
            raise SteerError(f"a worker cannot start; is steer installed on every node? {last}")
        if not hand.loaded:
            hand.losses += 1
        if hand.job is not None:
            self._losses[hand.job[1].number] += 1
            self._waiting.appendleft(hand.job)
        if max([hand.losses, *self._losses.values()]) > MOST_LOSSES:
            doing = f"making round {hand.job[1].number}" if hand.job else "loading its model"
            raise SteerError(
                f"a worker was lost {MOST_LOSSES + 1} times while {doing}, as when there is too "
                f"little memory (fewer --rows need less); Ray says: {error}"
            )
        self._start(hand)

    def _check(self, loaded: Loaded) -> None:
        """Raises `SteerError` when a worker would make other records than the first one; warns of
        one that rounds otherwise."""
        first = self._first or loaded
        if loaded.adapter_fingerprint not in ("", self._expert.adapter_fingerprint):
            raise SteerError(f"the expert on {loaded.node} is another one; copy this one there")
        if loaded.model != first.model:
            raise SteerError(
                f"the base model on {loaded.node} ({loaded.base_fingerprint}) is another one than "
                f"on {first.node} ({first.base_fingerprint}); use the same one everywhere"
            )
        if loaded.arithmetic != first.arithmetic:
            log.warning(
                "%s computes with %s and %s with %s: which records come out depends on who makes "
                "them; name one --dtype, one number of --threads, and have a C compiler "
                "everywhere or STEER_COMPILER set to nothing",
                loaded.node,
                loaded.arithmetic,
                first.node,
                first.arithmetic,
            )
        self._first = first


def _threads(spec: Spec, share: int) -> int:
    """Number of a worker's CPU threads: as many as were asked for, where its share of the
    processors has them."""
    if spec.threads is not None and spec.threads > share:
        log.warning(
            "a worker has %d of the %d threads that were asked for, so its records may differ in "
            "the last bits; fewer --workers have more",
            share,
            spec.threads,
        )
    return min(spec.threads or share, share)


def _needs(ray: Any, spec: Spec, workers: int) -> dict[str, float]:
    """Resources that each worker asks Ray for: the engine's GPUs where there are any; else an equal
    share of the processors, which is also how many threads Ray lets it use."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if spec.device == "cuda" or (spec.device == "auto" and any(node.get("GPU") for node in nodes)):
        return {"num_gpus": spec.gpus, "num_cpus": spec.gpus}
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    fitting = (n for n in range(1, max(cpus) + 1) if sum(cpu // n for cpu in cpus) >= workers)
    return {"num_cpus": max(fitting, default=1)}

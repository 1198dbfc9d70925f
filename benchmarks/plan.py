"""Plan of how much is measured: chosen by how fast the machine is, and by the time there is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.pairs import Group, Load, Side, timed

MINUTES = 15.0
QUICK_MINUTES = 5.0
PROBED = Load(rows=64, records=64, tokens=32)
DOUBT = 0.02  # a median that one more repeat moves by less is good enough


@dataclass(frozen=True)
class Plan:
    """Sizes of a measurement: `tokens` a record, `records` end to end, of which `published` are
    timed for the published procedure. Every group is repeated `least` times, and while there is
    time up to `most` times where its ratios scatter. Memory is read up to `memory` times."""

    name: str = "full"
    tokens: int = 32
    warm_tokens: int = 3
    least: int = 2
    most: int = 9
    memory: int = 2
    records: int = 256
    published: int = 1

    def __str__(self) -> str:
        times = "1 repeat" if self.most == 1 else f"{self.least} to {self.most} repeats"
        return (
            f"{self.name}: {self.tokens} tokens a record, {self.records} records end to end, "
            f"{times}"
        )


SLOW = Plan("slow", memory=1, records=64)
SLOWER = Plan("slower", tokens=24, memory=1, records=64)
SLOWEST = Plan("slowest", tokens=16, memory=1, records=64)
QUICK = Plan("quick", tokens=6, warm_tokens=2, least=1, most=1, memory=1, records=64)
CUDA = Plan("CUDA", tokens=64, warm_tokens=64, least=5, memory=3, published=4)

# Tokens a second of the probe from which a plan's least repeats fit into `MINUTES`, by the times of
# a processor with bf16 in hardware, which has some 1,350 (cpu.json, 64 rows, plain engine). Fewer
# tokens than 16 would time little but the prefill.
RATES = ((700.0, Plan()), (300.0, SLOW), (220.0, SLOWER), (0.0, SLOWEST))


@dataclass(frozen=True)
class Probe:
    """Speed that the plan is chosen by: tokens a second of our plain sampling, the engine alone."""

    rows: int
    tokens: int
    tokens_per_second: float


def probe(side: Side) -> Probe:
    """Times one run of `side`, after a warm-up of two tokens a record."""
    load = side.load
    timed(side, Load(load.rows, load.records, 2))
    return Probe(load.rows, load.tokens, timed(side, load).rate())


def choose(found: Probe, minutes: float = MINUTES) -> Plan:
    """Chooses the largest plan that a CPU with this probe gets through in `minutes`."""
    rate = found.tokens_per_second * minutes / MINUTES
    return next(plan for least, plan in RATES if rate >= least)


class Budget:
    """Budget in minutes from now; as good as endless when None."""

    def __init__(self, minutes: float | None) -> None:
        self.end = inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.end - time.monotonic())


def repeat_doubtful(
    groups: Sequence[Group], most: int, left: Callable[[], float], report: Callable[[str], None]
) -> None:
    """Repeats the group whose ratios are least sure, again and again: while one is in doubt, has
    fewer than `most` repeats, and takes no longer than the seconds that are `left`."""
    while True:
        open_groups = [
            group
            for group in groups
            if group.repeats < most and group.doubt > DOUBT and group.seconds <= left()
        ]
        if not open_groups:
            return
        max(open_groups, key=lambda group: group.doubt).repeat(report)

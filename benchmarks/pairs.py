"""Timing of sides that are compared: interleaved (A B A B ...), and the ratios of each repeat."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Load:
    """Work of a run: `records` of `tokens` tokens each, `rows` at a time."""

    rows: int
    records: int
    tokens: int

    @property
    def total(self) -> int:
        """Number of tokens in all."""
        return self.records * self.tokens


@dataclass(frozen=True)
class Sample:
    """One timed run. `start` is the part of `seconds` before the first decoding step."""

    seconds: float
    tokens: int
    start: float = 0.0

    def rate(self, start_share: float = 1.0) -> float:
        """Tokens a second, with only `start_share` of the start counted."""
        return self.tokens / (self.seconds - (1 - start_share) * self.start)


@dataclass(frozen=True)
class Side:
    """One of the sides that are compared. `run` does a load and returns the seconds of its start,
    if it tells them apart, else 0; it raises when it made another number of tokens."""

    name: str
    run: Callable[[Load], float]
    load: Load


@dataclass(frozen=True)
class Ratio:
    """Ratio over the repeats: the median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        return cls(statistics.median(values), min(values), max(values))

    @property
    def plausible(self) -> bool:
        """Whether the numbers can be a ratio at all."""
        return 0 < self.low <= self.median <= self.high < math.inf


@dataclass(frozen=True)
class Comparison:
    """Comparison to make, called `name`: tokens a second of `ours` over those of `theirs`, both
    names of sides, with only `start_share` of the start counted."""

    name: str
    ours: str
    theirs: str
    start_share: float = 1.0


@dataclass
class Group:
    """Sides timed together, the ratios wanted of them, and what was measured of each."""

    name: str
    sides: Sequence[Side]
    comparisons: Sequence[Comparison] = ()
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def measure(self, repeats: int, warm_tokens: int, report: Callable[[str], None]) -> None:
        """Runs a warm-up of `warm_tokens` a record for every side, then `repeats` in turns."""
        self.samples = {side.name: [] for side in self.sides}
        for side in self.sides:
            report(f"{self.name}: warming up, {side.name}")
            warm = min(warm_tokens, side.load.tokens)
            records = min(side.load.records, side.load.rows)
            timed(side, replace(side.load, tokens=warm, records=records))
        for _ in range(repeats):
            self.repeat(report)

    def repeat(self, report: Callable[[str], None]) -> None:
        """Runs every side once more, in turns."""
        number = self.repeats + 1
        for side in self.sides:
            report(f"{self.name}: repeat {number}, {side.name}")
            self.samples[side.name].append(timed(side, side.load))

    @property
    def repeats(self) -> int:
        """Number of repeats so far."""
        return len(self.samples[self.sides[0].name])

    @property
    def seconds(self) -> float:
        """Seconds that the last repeat took."""
        return sum(samples[-1].seconds for samples in self.samples.values())

    @property
    def doubt(self) -> float:
        """Estimates how far one more repeat may move a median, as a share of it: the widest spread
        of a ratio over the number of repeats."""
        spreads = [(found.high - found.low) / found.median for found in self.ratios().values()]
        return max(spreads, default=0.0) / self.repeats

    def ratios(self) -> dict[str, Ratio]:
        """Ratios that are wanted, by name."""
        return {
            wanted.name: self.ratio(wanted.ours, wanted.theirs, wanted.start_share)
            for wanted in self.comparisons
        }

    def ratio(self, ours: str, theirs: str, start_share: float = 1.0) -> Ratio:
        """Computes tokens a second of `ours` over those of `theirs`, repeat by repeat."""
        pairs = zip(self.samples[ours], self.samples[theirs], strict=True)
        return Ratio.of([a.rate(start_share) / b.rate(start_share) for a, b in pairs])

    def to_json(self) -> list[dict[str, Any]]:
        """Gives a row a side: its load, the raw seconds and tokens a second."""
        return [
            {
                "group": self.name,
                "side": side.name,
                **asdict(side.load),
                "seconds": [round(sample.seconds, 4) for sample in self.samples[side.name]],
                "start_seconds": [round(sample.start, 4) for sample in self.samples[side.name]],
                "tokens_per_second": asdict(
                    Ratio.of([sample.rate() for sample in self.samples[side.name]])
                ),
            }
            for side in self.sides
        ]


def timed(side: Side, load: Load) -> Sample:
    """Times one run of a side, with the GPU's work waited for."""
    synchronize()
    began = time.perf_counter()
    start = side.run(load)
    synchronize()
    return Sample(time.perf_counter() - began, load.total, start)


def synchronize() -> None:
    """Waits for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def check_tokens(made: int, load: Load) -> None:
    """Raises unless all of the load was done: a side that stops early would look fast."""
    if made != load.total:
        raise RuntimeError(f"{made} tokens were made instead of {load.total}")

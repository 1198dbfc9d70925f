"""A round in the making, and how many records it attempts: that follows from the rounds that it may
know of."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steer.config import RunConfig
from steer.engines.interface import Completion, Request
from steer.runs.panels import Panel

SMALLEST_ROUND = 8
ANY_SIZE = range(SMALLEST_ROUND, sys.maxsize)


@dataclass(frozen=True)
class Tally:
    """Counts for one label: attempts, those that passed the checks, those accepted (passed and
    not surplus)."""

    attempts: int = 0
    passed: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class Known:
    """Knowledge that a round is planned from: the counts for each label, how large the pool was,
    and how many candidates are made for a record."""

    tallies: Mapping[str | None, Tally]
    pool: Mapping[str | None, int]
    candidates: int


class Round:
    """`counts` attempts for each label, numbered from `first`, planned from what is `known`.

    `requests` are what an engine is to answer next. `panels` has one for each attempt once they
    are chosen, `completions` the answers once they are there.
    """

    def __init__(
        self, number: int, counts: Mapping[str | None, int], first: int, known: Known
    ) -> None:
        self.number, self.counts, self.first, self.known = number, counts, first, known
        self.requests: Sequence[Request] = ()
        self.panels: Sequence[Panel] = ()
        self.completions: Sequence[Completion] | None = None
        self.started = False

    @property
    def size(self) -> int:
        """Number of records that the round attempts."""
        return sum(self.counts.values())

    @property
    def labels(self) -> list[str | None]:
        """The label of each attempt, in order."""
        return [label for label, count in self.counts.items() for _ in range(count)]

    def ask(self, requests: Sequence[Request], panels: Sequence[Panel] = ()) -> None:
        """Sets the requests that an engine is to answer next; without `panels` these are drafts."""
        self.started, self.requests, self.panels = True, requests, panels

    def finish(self, completions: Sequence[Completion]) -> None:
        """Takes the answers to the round's own requests."""
        self.completions = completions


def plan_round(
    config: RunConfig,
    tallies: Mapping[str | None, Tally],
    flying: Mapping[str | None, int] | None = None,
    candidates: int = 1,
    first: range = ANY_SIZE,
) -> dict[str | None, int]:
    """Plans how many attempts a round makes for each label; empty when none are needed or left.

    `tallies` are those of the rounds it may know of, `flying` the attempts in the rounds between
    those and this one, whose outcome it may not know. They would fill what is missing if they, and
    the flying ones, pass at the label's rate so far, one in `candidates` then being accepted. They
    stay within the round size and the attempts left, but are at least `SMALLEST_ROUND`: a tiny
    round wastes a batch. The size of the first round is in `first`, as far as that goes.
    """
    flying = flying or {}
    needs = {
        label: _need(n, tallies[label], flying.get(label, 0), candidates)
        for label, n in config.wanted.items()
    }
    needed = sum(needs.values())
    if not needed:
        return {}
    tried = sum(tally.attempts for tally in tallies.values()) + sum(flying.values())
    left = config.attempts - tried
    most = config.round_size * candidates
    size = max(needed, SMALLEST_ROUND) if tried else min(max(needed, first.start), first.stop - 1)
    size = min(size, most, left)
    return {label: share for label, share in _share(size, needs).items() if share}


def _need(wanted: int, tally: Tally, flying: int, candidates: int) -> int:
    """Number of attempts that bring the missing records, at the rate so far; one more counts as
    passed, so that the rate is never 0."""
    missing = (wanted - tally.accepted) * candidates
    return max(0, math.ceil(missing * (tally.attempts + 1) / (tally.passed + 1)) - flying)


def _share(size: int, needs: Mapping[str | None, int]) -> dict[str | None, int]:
    """Splits `size` in proportion to `needs`, the largest remainders rounded up."""
    total = sum(needs.values())
    shares = {label: size * need // total for label, need in needs.items()}
    by_remainder = sorted(needs, key=lambda label: -(size * needs[label] % total))
    for label in by_remainder[: size - sum(shares.values())]:
        shares[label] += 1
    return shares

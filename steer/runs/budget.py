"""A budget of time or tokens for one call of `generate`."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from steer.errors import SteerError
from steer.runs.generation import RunProgress

OnProgress = Callable[[RunProgress], None]
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Budget:
    """What one call may take: `seconds`, `tokens` that are generated; None is no limit."""

    seconds: float | None = None
    tokens: int | None = None

    def watched(self, on_progress: OnProgress) -> OnProgress:
        """Makes of `on_progress` one that raises `BudgetSpent` between two rounds: before one that,
        as long as those before it were, would not end within the budget. The first round of a call
        is always made, so that every call comes further."""
        began, before = time.monotonic(), -1
        first = 0

        def update(progress: RunProgress) -> None:
            nonlocal before, first
            on_progress(progress)
            if before < 0:
                before = first = progress.attempts
            if progress.attempts == before or progress.accepted >= progress.wanted:
                return
            before = progress.attempts
            share = 1 + progress.round_size / max(1, progress.attempts - first)
            self._check(share * (time.monotonic() - began), share * progress.tokens)

        return update

    def _check(self, seconds: float, tokens: float) -> None:
        """Raises `BudgetSpent` where so much, with the next round, is more than there is."""
        over = self.seconds is not None and seconds > self.seconds
        if over or (self.tokens is not None and tokens > self.tokens):
            raise BudgetSpent


class BudgetSpent(Exception):
    """Stops a run whose budget is spent; the rounds that were committed stay."""


def parse_budget(text: str) -> float:
    """Reads seconds from such as "90s", "20m" or "1.5h". Raises `SteerError` for any other form."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    seconds = float(parts[1]) * _UNITS[parts[2]] if parts else 0.0
    if not seconds:
        raise SteerError(f"--budget is {text!r}: write a time such as 90s, 20m or 1.5h")
    return seconds

"""Generations that requests join and leave while they run, for a server: what they take and
tell."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from torch import Tensor

from steer.config import Sampling
from steer.engines.interface import Engine, FinishReason, Request
from steer.engines.masks import Masks
from steer.engines.sampling import Sampler
from steer.engines.tokens import Known
from steer.engines.trace import Candidate
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import Tokenizer


@dataclass(frozen=True)
class Order:
    """A request as a server has it: `sampling` is its own and draws tokens (no search). The record
    begins with the token ids `begun`, which are read and not drawn. `top` is how many of the
    likeliest tokens are told at each step (None: not even the chosen one's log-probability), and
    `trace` tells the candidates as `steer.engines.trace` finds them. Where the engine has several
    adapters, `adapter` is the number of the one whose streams these are, from 1."""

    request: Request
    sampling: Sampling
    begun: tuple[int, ...] = ()
    top: int | None = None
    trace: bool = False
    adapter: int = 1

    @property
    def longest(self) -> int:
        """Most tokens of the record."""
        return len(self.begun) + self.sampling.max_new_tokens

    @property
    def told(self) -> bool:
        """Whether more is told of a token than which it is."""
        return self.top is not None or self.trace

    @cached_property
    def sampler(self) -> Sampler:
        """Sampler that orders of the same sampling share, however long their records may be."""
        return _sampler(self.sampling.model_copy(update={"max_new_tokens": 1}))

    def require_at_most(self, longest: int) -> None:
        """Raises `SteerError` for a record that may have more than `longest` tokens."""
        if self.longest > longest:
            raise SteerError(
                f"the record may have {self.longest} tokens, but the longest is {longest}; "
                "ask for fewer new tokens"
            )


@dataclass(frozen=True)
class Told:
    """Facts of one step of one row that are only computed where an order asks for them."""

    log_prob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    trace: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Wrote:
    """One token of one row. `log_prob` is its guided log-probability (nats, before temperature and
    cuts), `top` the likeliest tokens with theirs. `finish` is set on a row's last token;
    `failed` where the streams rule out every token, which ends the row without one. `means` are,
    with the last token, the mean log-probabilities under each stream by name."""

    id: int
    token: int
    log_prob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    trace: tuple[Candidate, ...] = ()
    finish: FinishReason | None = None
    failed: bool = False
    means: Mapping[str, float] | None = None


class Live(Protocol):
    """Rows that come and go. Not for several threads at once, but for `check` and `length`."""

    cancelled: set[int]

    @property
    def busy(self) -> bool:
        """Whether a step would write anything."""
        ...

    @property
    def count(self) -> int:
        """Number of rows that decode together now."""
        ...

    def length(self, context: str | Shown) -> int:
        """Number of tokens of a context."""
        ...

    def check(self, order: Order) -> None:
        """Raises `SteerError` for an order that could never be served."""
        ...

    def add(self, orders: Iterable[Order]) -> None:
        """Adds orders, whose ids nothing else that runs has."""
        ...

    def cancel(self, ids: Iterable[int]) -> None:
        """Drops rows that wait or run; others of these ids are no longer there."""
        ...

    def step(self) -> list[Wrote]:
        """Writes one token of every row. A row's first comes in the step that admits it."""
        ...


class LiveEngine(Engine, Protocol):
    """An engine that can serve."""

    tokenizer: Tokenizer
    ends: Tensor

    @property
    def known(self) -> Known:
        """Ids that may be drawn."""
        ...

    def masks(self) -> Masks:
        """Masks for records with shapes. Raises `SteerError` as `Masks` does."""
        ...

    def live(self, longest: int) -> Live:
        """Makes a generation that requests join and leave while it runs; no record has more than
        `longest` tokens, or than the model reads."""
        ...


@lru_cache(maxsize=256)
def _sampler(sampling: Sampling) -> Sampler:
    return Sampler(sampling)

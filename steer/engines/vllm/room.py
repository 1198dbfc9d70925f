"""Which records may start: those whose streams fit into vLLM together, to their ends.

vLLM's scheduler knows sequences, not groups of them. A group stays in step when all its prefills
are in one scheduler step and none of its sequences is preempted later. So the room that a group may
come to need is taken before it starts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from steer.guidance import Shown


@dataclass(frozen=True)
class Capacity:
    """Limits of the loaded vLLM: sequences at a time, cache blocks of `block` tokens, tokens in one
    scheduler step. `shares` says whether equal contexts share blocks (prefix caching, full
    attention); `layouts` is how many kinds of cache each token has a block in."""

    sequences: int
    blocks: int
    block: int
    step_tokens: int
    shares: bool = True
    layouts: int = 1


@dataclass(frozen=True)
class SequencePlan:
    """A sequence of a group before it starts: the number of its adapter (0: none), its context, how
    many tokens that has, and how many it may come to write."""

    adapter: int
    context: str | Shown
    length: int
    new_tokens: int

    @property
    def read(self) -> tuple[int, str | Shown]:
        """What sequences share that read the same."""
        return self.adapter, self.context


class Room:
    """Share of a `Capacity` that the running groups have taken. Blocks that sequences share (the
    full ones of a context, without its last token, which vLLM always reads again) are taken
    once."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.sequences = 0
        self.blocks = 0
        self.readers: Counter[tuple[int, str | Shown]] = Counter()
        self.step_tokens = 0  # tokens taken of the next step

    def begin_step(self) -> None:
        """Begins a step, in which every running sequence reads one token."""
        self.step_tokens = self.sequences

    def take(self, group: Sequence[SequencePlan]) -> bool:
        """Takes room for a group, if there is enough for all of it."""
        before = self.sequences, self.blocks, self.step_tokens
        for plan in group:
            self.blocks += self._blocks(plan)
            self.step_tokens += plan.length - self._cached(plan)
            self.sequences += 1
            self.readers[plan.read] += 1
        if self._within():
            return True
        self.readers -= Counter(plan.read for plan in group)
        self.sequences, self.blocks, self.step_tokens = before
        return False

    def release(self, group: Sequence[SequencePlan]) -> None:
        """Gives back the room that a group took."""
        for plan in group:
            self.readers -= Counter([plan.read])
            self.blocks -= self._blocks(plan)
            self.sequences -= 1

    def _within(self) -> bool:
        most = self.capacity
        return (
            self.sequences <= most.sequences
            and self.blocks <= most.blocks
            and self.step_tokens <= most.step_tokens
        )

    def _shared(self, plan: SequencePlan) -> int:
        """Counts the blocks that all sequences reading this context share."""
        return (plan.length - 1) // self.capacity.block if self.capacity.shares else 0

    def _cached(self, plan: SequencePlan) -> int:
        """Counts the tokens that are not read again, as another running one has read them."""
        return self._shared(plan) * self.capacity.block if self.readers[plan.read] > 0 else 0

    def _blocks(self, plan: SequencePlan) -> int:
        """Counts the blocks that this sequence adds to those of its present co-readers, at its
        longest."""
        whole = -(-(plan.length + plan.new_tokens) // self.capacity.block)
        return (whole * self.capacity.layouts) - self._cached(plan) // self.capacity.block

"""Key-value caches of the hf engine, and the attention that reads them.

A lane is one stream of one row. What a lane attends to is its context (a prompt or a panel),
prefilled once for every lane that reads it, followed by the record's own tokens. A panel is
shared, never copied, and attention over the two parts is merged by their log-sum-exp (Hydragen,
arXiv 2402.05099, equation 4): what a lane finds in the panel is the value of one more token of its
own, whose score is the log-sum-exp. A context of a few tokens takes longer to read apart than its
tokens do, so each lane has it in its own cache, before its own tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from steer.engines.hf.attention import prefill, read_own, read_shared
from steer.engines.hf.compiled import Kernels
from steer.engines.hf.norm import Norm

GROWTH = 32  # own tokens a cache grows by
SHORT = 32  # tokens of a context that a lane keeps in its own cache


@dataclass
class Context:
    """A prefilled context: `keys` and `values` hold (1, kv_heads, length, head_dim) a layer,
    `logits` (vocab,) the prediction of the first own token, and `adapters` (1,) the number of the
    adapter that it is read with."""

    length: int
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    adapters: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Computes causal self-attention of the prefill, (1, heads, length, head_dim); keeps k and
        v."""
        assert layer == len(self.keys)
        # A copy, not a view of the projection, which would keep q alive as well; head by head, as
        # it is read.
        self.keys.append(k.clone(memory_format=torch.contiguous_format))
        self.values.append(v.clone(memory_format=torch.contiguous_format))
        return prefill(q, k, v, scaling)


@dataclass
class Lane:
    """One stream of one row: its place in the bank, how many slots of its own cache are taken, and
    how many positions its next token is beyond them. The first slots hold its context, or stand for
    one that is read `apart`: a slot for each query head of a key head. `adapter` is the number of
    its adapter, 0 for none."""

    index: int
    context: Context
    apart: bool
    length: int
    beyond: int
    adapter: int = 0

    @property
    def position(self) -> int:
        """Position of the lane's next token in its text, from 0."""
        return self.length + self.beyond

    @property
    def shared(self) -> int:
        """How many tokens it reads apart."""
        return self.context.length if self.apart else 0


class Bank:
    """Lanes that go through the model together, at most `room`: dense, lane i at index i, the first
    `on` of them with an adapter on and the others without; `adapters` (count,) are their numbers.
    `kv_shape` is layers, kv_heads and head_dim, `rep` query heads share a key head; the cache has
    the device and the precision of `like`. With `kernels` a few lanes are read by them, `compiled`
    says whether in this step."""

    def __init__(
        self,
        kv_shape: tuple[int, int, int],
        rep: int,
        room: int,
        like: Tensor,
        kernels: Kernels | None = None,
    ) -> None:
        self.rep, self.kernels, self.compiled = rep, kernels, False
        self.lanes: list[Lane] = []
        self.on = 0
        layers, kv_heads, head_dim = kv_shape
        self.cache = like.new_empty(layers, 2, room, kv_heads, 0, head_dim)
        self.adapters: Tensor | None = None
        self._groups: list[tuple[Context, Tensor | slice]] | None = None
        self._contexts: tuple[Tensor, ...] | None = None

    @property
    def count(self) -> int:
        return len(self.lanes)

    def add(self, adapter: int, context: Context) -> Lane:
        """Adds a new lane that reads `context` with the adapter of that number; 0 is none."""
        apart = context.length > SHORT
        length = self.rep if apart else context.length
        lane = Lane(self.count, context, apart, length, context.length - length, int(adapter))
        self.lanes.append(lane)
        self._groups = self._contexts = None
        if adapter:
            first_off = self.lanes[self.on]
            if first_off is not lane:
                self._place(first_off, lane.index)
            lane.index, self.lanes[self.on] = self.on, lane
            self.on += 1
        if length > self.cache.shape[4]:
            self._grow(length + GROWTH)
        own = self.cache[:, :, lane.index, :, :length]
        if apart:
            own.zero_()  # a key that is zero leaves the score to the mask
        else:
            torch.cat(context.keys, out=own[:, 0])
            torch.cat(context.values, out=own[:, 1])
        return lane

    def reserve(self, lanes: int) -> None:
        """Makes room for so many lanes, and for twice as many as there was room for at least."""
        old = self.cache
        if lanes > (room := old.shape[2]):
            self.cache = old.new_zeros((*old.shape[:2], max(lanes, 2 * room), *old.shape[3:]))
            self.cache[:, :, :room] = old

    def remove(self, lane: Lane) -> None:
        """Drops `lane`; the last one of its kind and the last of all move up."""
        hole = lane.index
        self._groups = self._contexts = None
        if hole < self.on:
            self.on -= 1
            self._place(self.lanes[self.on], hole)
            hole = self.on
        last = self.count - 1
        if hole < last:
            self._place(self.lanes[last], hole)
        self.lanes.pop()

    def _place(self, lane: Lane, index: int) -> None:
        if lane.index != index:
            own = self.cache[..., : lane.length, :]
            own[:, :, index] = own[:, :, lane.index]
            lane.index, self.lanes[index] = index, lane

    def copy(self, moves: Sequence[tuple[Lane, Lane]], newest: bool = False) -> None:
        """Copies the own tokens of one lane into another of the same length, for all pairs (from,
        to) at once; with `newest` the last token only."""
        if not moves:
            return
        pairs = [(a.index, b.index, a.length) for a, b in moves]
        sources, targets, lengths = torch.tensor(pairs, device=self.cache.device).T
        if newest:
            slots = lengths - 1
            self.cache[:, :, targets, :, slots] = self.cache[:, :, sources, :, slots]
        else:
            own = self.cache[..., : max(length for _, _, length in pairs), :]
            own[:, :, targets] = own[:, :, sources]

    def _grow(self, own: int) -> None:
        """Makes room for `own` tokens a lane."""
        old = self.cache
        # Slots beyond a lane's length are masked, but 0 * NaN is NaN: no garbage.
        self.cache = old.new_zeros((*old.shape[:4], own, old.shape[5]))
        self.cache[..., : old.shape[4], :] = old

    def prepare(self) -> Tensor:
        """Decides, once before a decoding step, where new keys go and what each lane may see.
        Returns the position of each lane's new token, (count,)."""
        device = self.cache.device
        numbers = [(lane.length, lane.position, lane.adapter) for lane in self.lanes]
        seen = max(length for length, *_ in numbers) + 1
        if seen > self.cache.shape[4]:
            self._grow(self.cache.shape[4] + GROWTH)
        slots, positions, self.adapters = torch.tensor(numbers, device=device).T.contiguous()
        own = sum(lane.length + 1 for lane in self.lanes)
        shared = [lane.shared for lane in self.lanes]
        kernels = self.kernels if self.kernels and self.kernels.take(self.count) else None
        self.compiled = kernels is not None
        dim = self.cache.shape[5]
        self.attends = kernels is not None and kernels.attend_to(own, sum(shared), dim)
        if self.compiled:
            self.write, self.places = self.cache.unbind(), slots
        else:
            self._aim(slots)
        if self.attends:
            self._tell(seen + max(shared))
        else:
            self._see(slots, seen)
        for lane in self.lanes:
            lane.length += 1
        return positions

    def _tell(self, longest: int) -> None:
        """Decides what `Kernels.attend` is told: where each lane's own tokens are and how many it
        reads apart, at most `longest` in all, and where those are."""
        slots = [(lane.apart * self.rep, lane.length + 1, lane.shared) for lane in self.lanes]
        self.longest, self.about = longest, torch.tensor(slots)
        if self._contexts is None:
            addresses = [
                [
                    (each[layer].data_ptr() if lane.apart else 0)
                    for lane in self.lanes
                    for each in (lane.context.keys, lane.context.values)
                ]
                for layer in range(len(self.cache))
            ]
            self._contexts = torch.tensor(addresses).unbind()

    def _aim(self, slots: Tensor) -> None:
        """Decides where PyTorch's operators put new keys and values."""
        layers, two, lanes, heads, own, dim = self.cache.shape
        self.write = self.cache.view(layers, -1, dim).unbind()
        places = torch.arange(two * lanes * heads, device=slots.device).view(two, lanes, heads)
        self.places = (places[:, : self.count] * own + slots[:, None]).flatten()

    def _see(self, slots: Tensor, seen: int) -> None:
        """Decides what they see, of at most `seen` slots a lane."""
        hidden = torch.arange(seen, device=slots.device) > slots.unsqueeze(-1)
        mask = torch.zeros(hidden.shape, device=slots.device).masked_fill_(hidden, -torch.inf)
        self.mask = mask[:, None, None, :]
        # A view a layer, made here for all of them at once, as each costs its call.
        self.read = self.cache[:, :, : self.count, :, :seen].flatten(0, 1).unbind()
        if self._groups is None:
            self._groups = self._group()
        if self._groups:
            # Each query head has a slot of its own, whose score every layer sets.
            self.mask = self.mask.repeat(1, self.cache.shape[3], self.rep, 1)
            first = self.mask[..., : self.rep]
            for _, members in self._groups:
                first[members] = -torch.inf
            self.shared_scores = first.diagonal(dim1=-2, dim2=-1)

    def _group(self) -> list[tuple[Context, Tensor | slice]]:
        """Groups the lanes by the context that they read apart."""
        members: dict[int, list[Lane]] = {}
        for lane in self.lanes:
            if lane.apart:
                members.setdefault(id(lane.context), []).append(lane)
        return [
            (group[0].context, self._places([lane.index for lane in group]))
            for group in members.values()
        ]

    def _places(self, numbers: list[int]) -> Tensor | slice:
        """Lanes at equal distances as a slice, which is read without a copy."""
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        even = range(numbers[0], numbers[0] + step * len(numbers), step) if step > 0 else ()
        if numbers == list(even):
            return slice(numbers[0], numbers[-1] + 1, step)
        return torch.tensor(numbers, device=self.cache.device)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Computes attention of one new token a lane: q (count, heads, 1, head_dim), k and v with
        kv_heads; returns the shape of q."""
        self.write[layer].index_copy_(0, self.places, torch.cat((k, v)).view(-1, k.shape[3]))
        return self._find(layer, q, scaling).view(q.shape)

    def attend_compiled(
        self,
        layer: int,
        heads: Tensor,
        rotation: tuple[Tensor, Tensor],
        norms: tuple[Norm | None, Norm | None],
        scaling: float,
    ) -> Tensor:
        """The same for heads (count, width) as `Kernels.place` reads them; returns (count, heads *
        head_dim)."""
        assert self.kernels
        q = self.kernels.place(heads, rotation, norms, self.places, self.write[layer])
        return self._find(layer, q, scaling)

    def _find(self, layer: int, q: Tensor, scaling: float) -> Tensor:
        """What the queries of `count` lanes find in the caches, (count, heads * head_dim)."""
        if self.attends:
            assert self.kernels and self._contexts
            return self.kernels.attend(
                q, self.about, self._contexts[layer], self.write[layer], self.longest, scaling
            )
        keys, values = self.read[2 * layer : 2 * layer + 2]
        # Query heads that share a key head become rows of one matrix product.
        grouped = q.reshape(self.count, keys.shape[1], -1, q.shape[-1])
        for context, lanes in self._groups or ():
            rows = grouped[lanes].transpose(0, 1)
            k, v = context.keys[layer], context.values[layer]
            shared, total = read_shared(rows, k, v, scaling)
            values[lanes, :, : self.rep] = shared.transpose(0, 1)
            self.shared_scores[lanes] = total.transpose(0, 1)
        return read_own(grouped, keys, values, scaling, self.mask).reshape(self.count, -1)

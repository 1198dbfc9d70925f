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
from torch import Tensor, nn

from steer.models import machine

GROWTH = 32  # own tokens a cache grows by
SHORT = 32  # tokens of a context that a lane keeps in its own cache
FUSED_ROWS = 48  # query rows a key head, of all lanes
BLOCKED = {torch.bfloat16}  # prefilled on a CPU by plain products, `BLOCK` queries at a time
BLOCK = 128


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
        if q.is_cpu and q.dtype in BLOCKED and q.shape[2] > BLOCK:
            return _causal(q, k, v, scaling)
        return nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )


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


class Bank:
    """Lanes that go through the model together, at most `room`: dense, lane i at index i, the first
    `on` of them with an adapter on and the others without; `adapters` (count,) are their numbers.
    `kv_shape` is layers, kv_heads and head_dim, `rep` query heads share a key head; the cache has
    the device and the precision of `like`."""

    def __init__(self, kv_shape: tuple[int, int, int], rep: int, room: int, like: Tensor) -> None:
        self.rep = rep
        self.lanes: list[Lane] = []
        self.on = 0
        layers, kv_heads, head_dim = kv_shape
        self.cache = like.new_empty(layers, 2, room, kv_heads, 0, head_dim)
        self.adapters: Tensor | None = None
        self._groups: list[tuple[Context, Tensor | slice]] | None = None

    @property
    def count(self) -> int:
        return len(self.lanes)

    def add(self, adapter: int, context: Context) -> Lane:
        """Adds a new lane that reads `context` with the adapter of that number; 0 is none."""
        apart = context.length > SHORT
        length = self.rep if apart else context.length
        lane = Lane(self.count, context, apart, length, context.length - length, int(adapter))
        self.lanes.append(lane)
        self._groups = None
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
        self._groups = None
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
        slots, positions, self.adapters = torch.tensor(numbers, device=device).T
        hidden = torch.arange(seen, device=device) > slots.unsqueeze(-1)
        mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
        self.mask = mask[:, None, None, :]
        # A view a layer, made here for all of them at once, as each costs its call.
        layers, two, lanes, heads, own, dim = self.cache.shape
        self.read = self.cache[:, :, : self.count, :, :seen].flatten(0, 1).unbind()
        self.write = self.cache.view(layers, -1, dim).unbind()
        places = torch.arange(two * lanes * heads, device=device).view(two, lanes, heads)
        self.places = (places[:, : self.count] * own + slots[:, None]).flatten()
        if self._groups is None:
            self._groups = self._group()
        if self._groups:
            # Each query head has a slot of its own, whose score every layer sets.
            self.mask = self.mask.repeat(1, heads, self.rep, 1)
            first = self.mask[..., : self.rep]
            for _, members in self._groups:
                first[members] = -torch.inf
            self.shared_scores = first.diagonal(dim1=-2, dim2=-1)
        for lane in self.lanes:
            lane.length += 1
        return positions

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
        kv_heads, dim = k.shape[1], k.shape[3]
        self.write[layer].index_copy_(0, self.places, torch.cat((k, v)).view(-1, dim))
        # Query heads that share a key head become rows of one matrix product.
        grouped = q.reshape(self.count, kv_heads, -1, dim)
        keys, values = self.read[2 * layer : 2 * layer + 2]
        for context, lanes in self._groups or ():
            rows = grouped[lanes].transpose(0, 1)
            shared, total = _read_shared(context, layer, rows, scaling)
            values[lanes, :, : self.rep] = shared.transpose(0, 1)
            self.shared_scores[lanes] = total.transpose(0, 1)
        return _read(grouped, keys, values, scaling, self.mask).view(q.shape)


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """Causal self-attention, (1, heads, length, head_dim): a block of queries sees the keys up to
    its own end. In bf16 these products take half the time of PyTorch's fused kernel."""
    kv_heads, length, dim = k.shape[1:]
    grouped, out = (q * scaling).view(kv_heads, -1, length, dim), torch.empty_like(q)
    read = out.view(grouped.shape)
    hidden = q.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        rows = grouped[:, :, start:end]
        keys, values = k[0, :, :end].contiguous(), v[0, :, :end]  # see `_scores`
        scores = rows.flatten(1, 2) @ keys.transpose(1, 2)
        scores.view(*rows.shape[:3], end)[..., start:] += hidden[: end - start, : end - start]
        read[:, :, start:end] = (scores.softmax(dim=-1) @ values).view(rows.shape)
    return out


def _read_shared(context: Context, layer: int, q: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Computes attention of q (kv_heads, lanes, rep, head_dim) over a context, for all lanes at
    once, and the log-sum-exp of the scores (kv_heads, lanes, rep) in fp32.

    PyTorch's fused kernel gives both. Otherwise the log-sum-exp is a token's score less the log of
    its weight: of the likeliest, which has the largest of both, and no rounding error for a weight.
    """
    k, v = context.keys[layer], context.values[layer]
    rows = q.reshape(1, len(q), -1, q.shape[-1])
    if _is_fused(rows):
        out, total = machine.fused_attention(rows, k, v, scaling)
    else:
        scores = _scores(rows, k, scaling)
        weights = scores.softmax(dim=-1)
        out, total = weights.to(q.dtype) @ v, scores.amax(dim=-1) - weights.amax(dim=-1).log()
    return out.view(q.shape), total.view(q.shape[:-1])


def _read(q: Tensor, k: Tensor, v: Tensor, scaling: float, mask: Tensor) -> Tensor:
    """Attention of q (batch, kv_heads, rows, head_dim) over k and v (batch, kv_heads, length,
    head_dim), with `mask` added to the scores."""
    if _is_fused(q):
        return machine.fused_attention(q, k, v, scaling, mask)[0]
    scores = _scores(q, k, scaling).add_(mask)
    return scores.softmax(dim=-1).to(q.dtype) @ v


def _is_fused(q: Tensor) -> bool:
    """Whether PyTorch's fused kernel for CPUs reads for q (batch, kv_heads, rows, head_dim): for
    many rows plain products are faster (docs/performance.md)."""
    small = q.is_cpu and len(q) * q.shape[2] <= FUSED_ROWS
    return small and q.dtype in machine.processor().fused


def _scores(q: Tensor, k: Tensor, scaling: float) -> Tensor:
    """Attention scores of each of q's rows with each of the keys, in fp32."""
    # A CPU's product copies keys that have gaps between lanes, element by element if transposed.
    k = k.contiguous() if k.is_cpu else k
    return ((q * scaling) @ k.transpose(-1, -2)).float()

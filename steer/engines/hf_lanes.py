"""Key-value caches of the hf engine, and the attention that reads them.

A lane is one stream of one row. What a lane attends to is its context (a prompt or a panel),
prefilled once and shared by every lane that reads it, followed by the record's own tokens.
Attention over the two parts is merged by their log-sum-exp (Hydragen, arXiv 2402.05099,
equation 4), so a shared context is never copied.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from steer.errors import SteerError

IMPLEMENTATION = "steer_lanes"
GROWTH = 32  # own tokens a cache grows by
FUSED_LANES = 16


@dataclass
class Context:
    """A prefilled context: `keys` and `values` hold (kv_heads, length, head_dim) a layer,
    `logits` (vocab,) the prediction of the first own token."""

    length: int
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        """Causal self-attention of the prefill, (1, heads, length, head_dim); keeps k and v."""
        assert layer == len(self.keys)
        # A copy, not a view of the projection, which would keep q alive as well.
        self.keys.append(k[0].clone())
        self.values.append(v[0].clone())
        return nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=True
        )


@dataclass
class Lane:
    """One stream of one row: its place in its bank, and how many own tokens are cached."""

    index: int
    context: Context
    length: int = 0


class Bank:
    """The lanes that have the adapter on, or those that have it off: dense, lane i at index i."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int, like: Tensor) -> None:
        self.lanes: list[Lane] = []
        self.cache = like.new_empty(layers, 2, 0, kv_heads, 0, head_dim)
        self._groups: list[tuple[Context, Tensor | slice]] | None = None

    @property
    def count(self) -> int:
        return len(self.lanes)

    def add(self, context: Context) -> Lane:
        """A new lane that reads `context`."""
        lane = Lane(self.count, context)
        self.lanes.append(lane)
        self._groups = None
        if self.count > self.cache.shape[2]:
            self._resize(lanes=max(8, 2 * self.cache.shape[2]))
        return lane

    def remove(self, lane: Lane) -> None:
        """Drop `lane`; the last lane moves into its place."""
        last = self.lanes.pop()
        self._groups = None
        if lane is not last:
            own = self.cache[..., : last.length, :]
            own[:, :, lane.index] = own[:, :, last.index]
            self.lanes[lane.index] = last
            last.index = lane.index

    def _resize(self, lanes: int = 0, own: int = 0) -> None:
        old = self.cache
        layers, two, old_lanes, heads, old_own, dim = old.shape
        self.cache = old.new_empty(layers, two, lanes or old_lanes, heads, own or old_own, dim)
        # Own slots beyond a lane's length are masked, but 0 * NaN is NaN: no garbage.
        self.cache.zero_()
        self.cache[:, :, :old_lanes, :, :old_own] = old

    def prepare(self) -> None:
        """Once before a decoding step: where new keys go and what each lane may see."""
        device = self.cache.device
        lengths = [lane.length for lane in self.lanes]
        self.seen = max(lengths) + 1
        if self.seen > self.cache.shape[4]:
            self._resize(own=self.cache.shape[4] + GROWTH)
        self.numbers = torch.arange(self.count, device=device)
        self.slots = torch.tensor(lengths, device=device)
        hidden = torch.arange(self.seen, device=device) > self.slots.unsqueeze(-1)
        self.mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
        self.mask = self.mask[:, None, None, :]
        if self._groups is None:
            self._groups = self._group()
        for lane in self.lanes:
            lane.length += 1

    def positions(self) -> Tensor:
        """Position of each lane's new token, (count,); call after `prepare`."""
        starts = [lane.context.length for lane in self.lanes]
        return torch.tensor(starts, device=self.slots.device) + self.slots

    def _group(self) -> list[tuple[Context, Tensor | slice]]:
        """The lanes of each context."""
        members: dict[int, list[Lane]] = {}
        for lane in self.lanes:
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
        """Attention of one new token a lane: q (count, heads, 1, head_dim), k and v with
        kv_heads; returns the shape of q."""
        keys, values = self.cache[layer]
        keys[self.numbers, :, self.slots] = k[:, :, 0]
        values[self.numbers, :, self.slots] = v[:, :, 0]
        kv_heads, dim = keys.shape[1], keys.shape[3]
        # Query heads that share a key head become rows of one matrix product.
        grouped = (q * scaling).view(self.count, kv_heads, -1, dim)
        seen = slice(self.count), slice(None), slice(self.seen)
        own, own_total = _read(grouped, keys[seen], values[seen], self.mask)
        shared, shared_total = self._read_contexts(layer, grouped)
        share = torch.sigmoid(shared_total - own_total).to(q.dtype)
        return torch.lerp(own, shared, share).view(q.shape)

    def _read_contexts(self, layer: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """`_read` of each lane's context by its q."""
        groups = self._groups or []
        if len(groups) == 1:
            return _read_shared(groups[0][0], layer, q)
        out, total = torch.empty_like(q), q.new_empty(*q.shape[:-1], 1, dtype=torch.float32)
        for context, lanes in groups:
            out[lanes], total[lanes] = _read_shared(context, layer, q[lanes])
        return out, total


def _read_shared(context: Context, layer: int, q: Tensor) -> tuple[Tensor, Tensor]:
    """`_read` of a context by all lanes of q (lanes, kv_heads, rep, head_dim) at once."""
    lanes, kv_heads, rep, dim = q.shape
    rows = q.transpose(0, 1).reshape(1, kv_heads, lanes * rep, dim)
    out, total = _read(rows, context.keys[layer][None], context.values[layer][None], None)
    back = (kv_heads, lanes, rep, -1)
    return out[0].view(back).transpose(0, 1), total[0].view(back).transpose(0, 1)


def _read(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attention of q (batch, kv_heads, rows, head_dim) over k and v (batch, kv_heads, length,
    head_dim), and the log-sum-exp of its scores (batch, kv_heads, rows, 1) in fp32.

    PyTorch's fused kernel for CPUs gives both; for many lanes of few rows plain products are
    faster than it (docs/performance.md).
    """
    if q.is_cpu and len(q) <= FUSED_LANES:
        wide = None if mask is None else mask.expand(len(q), q.shape[1], q.shape[2], -1)
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, total = fused(q, k, v, attn_mask=wide, scale=1.0)
        return out, total.unsqueeze(-1)
    scores = (q @ k.transpose(-1, -2)).float()
    if mask is not None:
        scores += mask
    total = scores.logsumexp(dim=-1, keepdim=True)
    return (scores - total).exp().to(q.dtype) @ v, total


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    steer_reads: "list[Context] | list[Bank]",
    **others: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: the batch is the lanes of `steer_reads` in order."""
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise SteerError(f"the hf engine does not know attention with '{name}' yet")
    outs, start = [], 0
    for part in steer_reads:
        stop = start + (part.count if isinstance(part, Bank) else 1)
        q, k, v = (x[start:stop] for x in (query, key, value))
        outs.append(part.attend(module.layer_idx, q, k, v, scaling))
        start = stop
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out.transpose(1, 2), None


AttentionInterface.register(IMPLEMENTATION, _attention)

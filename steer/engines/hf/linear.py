"""One copy of the base weights, an adapter on for the leading lanes of a batch and off for the
rest, so that one forward pass serves the expert and the base model. There may be several adapters:
each of the leading lanes then has the one of its number.

For few rows a linear layer costs its start, not its arithmetic. So the layers that read the same
tensor (queries, keys and values; gate and up) are one product, and the adapter is one more. What
its first matrices make of the tensor stands beside the tensor, set to zero where the adapter is
off; its second matrices stand beside the base weights. Those of several adapters stand side by
side.

All of them read rows (rows, features), each a token of a lane, lane by lane: a view that folds and
unfolds them costs a few rows half as much as a small product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steer.models import machine
from steer.models.base import INT8

COPY_SHARE = 1 / 20
"""Share of the memory for a second copy of the weights."""

HALF_BYTES = 2
"""Bytes of a weight of fp16."""


class Switch:
    """State of the adapters in the next forward pass: one is on for the first `on` rows; with
    `merged` for all of them, from weights that have the adapter added in. Where there are several,
    `numbers` (rows,) says which: the first is 1, and 0 is none."""

    on = 0
    merged = False
    numbers: Tensor | None = None


class Product:
    """x -> weight x + bias, for x (rows, in) and `weight` (out, in). The columns of an adapter,
    `up` (out, ranks), stand beside the weight's.

    PyTorch's CPU kernels reorder bf16 weights at every call; for few rows that takes longer than
    the product. Where the processor can, they are reordered once, as PyTorch's compiler does it:
    by the first call, as weights that are only merged with an adapter are never called.
    `rounds` says whether a weight's rows lose what is small beside their largest value, and
    `merges` whether an adapter may be added into the weight.
    """

    rounds, merges = False, True
    packed = False

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        self.weight, self.bias = _beside(weight, up), bias
        self.packs = machine.can_pack(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packs and not self.packed:
            self.weight, self.packed = machine.pack(self.weight), True
        if self.packed:
            return machine.packed_linear(x, self.weight, self.bias)
        return nn.functional.linear(x, self.weight, self.bias)

    def with_low(self, x: Tensor, low: Tensor) -> Tensor:
        """Multiplies x by the weight and `low` (rows, ranks) by `up`."""
        return self(torch.cat((x, low), dim=1))

    def reads_half(self, x: Tensor) -> bool:
        """Whether a product with x reads weights of fp16 (see `HalfProduct`)."""
        return False

    @classmethod
    def of(cls, weight: Tensor) -> "type[Product]":
        """The kind of product for this weight, where this kind is wanted."""
        return cls

    @property
    def dense(self) -> Tensor:
        """The weight (out, in) as it came, and `up` beside it."""
        return self.weight.to_dense() if self.packed else self.weight


def _beside(weight: Tensor, up: Tensor | None) -> Tensor:
    return weight if up is None else torch.cat((weight, up), dim=1)


class SmallProduct(Product):
    """The same for a matrix of an adapter. In bf16 PyTorch's kernels for CPUs take longer to start
    than such a product takes, so few rows are multiplied in fp32."""

    turned: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if not self.packs or len(x) > machine.FEW_ROWS:
            return super().__call__(x)
        if self.turned is None:
            self.turned = self.dense.float().t().contiguous()
        return (x.float() @ self.turned).to(x.dtype)


class HalfProduct(Product):
    """The same, for weights of fp32 that fp16 holds: few rows read half as many bytes, from a copy
    that the first of them makes. Without AVX-512, PyTorch's products of two to a dozen rows in fp32
    take twice as long as those of one; these do not."""

    half: tuple[Any, int] | None = None

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        self.halves = machine.can_halve(weight)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.reads_half(x):
            return super().__call__(x)
        assert self.half is not None
        return machine.half_linear(x, *self.half)

    def reads_half(self, x: Tensor) -> bool:
        if not self.halves or len(x) > machine.FEW_ROWS:
            return False
        if self.half is None:
            self.half = machine.to_half(self.weight, self.bias)
            self.halves = self.half is not None
        return self.halves


class Int8Product(Product):
    """The same with the weight in int8, a quarter of what fp32 reads from memory."""

    rounds = True

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        whole = _beside(weight, up)
        self.weight, self.scales = machine.to_int8(whole)
        self.bias, self.columns, self.dtype = bias, whole.shape[1], whole.dtype

    def __call__(self, x: Tensor) -> Tensor:
        product = machine.int8_linear(x, self.weight, self.scales)
        return product if self.bias is None else product + self.bias

    @property
    def dense(self) -> Tensor:
        """The weight (out, in), as it was rounded."""
        return machine.from_int8(self.weight, self.scales, self.columns).to(self.dtype)


class QuickInt8Product(Int8Product):
    """The same where there is memory for what was rounded in the usual dtype too, which more rows
    read; and in int4 where that loses no more."""

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        self.many, self.few = Product(self.dense, bias), machine.rounded_rows(weight)

    @classmethod
    def of(cls, weight: Tensor) -> type[Product]:
        return Int4Product if machine.is_int4(weight) else cls

    def __call__(self, x: Tensor) -> Tensor:
        return self.many(x) if len(x) > self.few else super().__call__(x)


class Int4Product(Product):
    """The same for a weight that was stored in four bits, of which few rows read an eighth of what
    fp32 reads. An adapter's columns are there twice, so that they keep eight."""

    merges = False

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        self.quarter, self.scales, rounded = machine.to_int4(weight, up)
        super().__init__(rounded.to(weight.dtype), bias)
        self.outputs, self.few = len(weight), machine.rounded_rows(weight)

    def __call__(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        if len(x) > self.few:
            return super().__call__(x if low is None else torch.cat((x, low), dim=1))
        product = machine.int4_linear(x, self.quarter, self.scales, self.outputs, low)
        return product if self.bias is None else product + self.bias

    with_low = __call__


class Single(nn.Module):
    """A linear layer that stands alone, as a `Product`."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x.flatten(0, -2)).view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Layer:
    """A linear layer: its weight (out, in) and bias (out,), and for each adapter its matrices
    (rank, in) and, scaled, (out, rank); of rank 0 where the adapter has none for it."""

    weight: Tensor
    bias: Tensor | None
    low_ranks: tuple[tuple[Tensor, Tensor], ...] = ()


class Joint:
    """Linear layers that read the same tensor, as one: base(x) for x (rows, in), plus the low-rank
    update for the first `switch.on` rows.

    With several adapters, `owners` (all their ranks,) has the number of the adapter that each
    column of `down`'s is of.
    """

    def __init__(
        self, layers: Sequence[Layer], switch: Switch, product: type[Product] = Product
    ) -> None:
        weight = torch.cat([layer.weight for layer in layers])
        downs, ups = [], []
        product = product.of(weight)
        self.switch, self.product = switch, product
        for pairs in zip(*(layer.low_ranks for layer in layers), strict=True):
            own, above = zip(*pairs, strict=True)
            down, up = torch.cat(own), torch.block_diag(*above)
            if product.rounds:
                sizes = _sizes(up, weight)
                down, up = down * sizes.unsqueeze(1), up / sizes
            downs.append(down)
            ups.append(up)
        down = torch.cat(downs) if downs else weight[:0]
        small = QuickInt8Product if product is Int4Product else SmallProduct
        self.down = small(down, None) if len(down) else None
        up = torch.cat(ups, dim=1) if self.down else None
        self.both = product(weight, _bias(layers), up)
        ranks = torch.tensor([len(each) for each in downs], device=down.device)
        numbers = torch.arange(1, len(downs) + 1, device=down.device)
        self.owners = numbers.repeat_interleave(ranks) if len(downs) > 1 else None
        self.merged: Product | None = None

    @property
    def merged_bytes(self) -> int:
        """Bytes of memory that `merge` takes or took."""
        return self.both.weight.nbytes if self.down and self.product.merges else 0

    @property
    def weights(self) -> list[Tensor]:
        """Weights that a guided pass reads."""
        products = [each for each in (self.both, self.down) if each]
        parts = [part for each in products for part in (each.weight, each.bias)]
        return [part for part in parts if part is not None]

    def __call__(self, x: Tensor) -> Tensor:
        # Merged weights are not among those that fp16 holds.
        if self.switch.merged and self.merged and not self.both.reads_half(x):
            return self.merged(x)
        if not self.down:
            return self.both(x)
        low = self.down(x)
        if self.switch.on < len(low):
            low[self.switch.on :].zero_()
        if self.owners is not None:
            assert self.switch.numbers is not None
            low.masked_fill_(self.switch.numbers.unsqueeze(1) != self.owners, 0.0)
        return self.both.with_low(x, low)

    def merge(self) -> None:
        """Keeps a second copy of the weights, with the adapter added in; once. None where it may
        not stand beside them: rounding would take of it what is small."""
        if self.down and self.product.merges and not self.merged:
            down, both = self.down.dense.float(), self.both.dense
            base, up = both.tensor_split((down.shape[1],), dim=1)
            # In place: new memory, page by page, takes longer than the product.
            merged = base.to(torch.float32, copy=True).addmm_(up.float(), down)
            self.merged = self.product(merged.to(both.dtype), self.both.bias)


def _sizes(up: Tensor, weight: Tensor) -> Tensor:
    """Powers of two (rank,) by which the columns of `up` (out, rank) are larger than the rows of
    `weight` (out, in): divided by them, which is exact, both round alike."""
    if not up.numel():
        return up.new_ones(up.shape[1])
    larger = up.abs().amax(dim=0).float() / weight.abs().amax(dim=1).float().median()
    larger = torch.where((larger > 0) & larger.isfinite(), larger, 1.0)
    return larger.log2().round().exp2().to(up.dtype)


def _bias(layers: Sequence[Layer]) -> Tensor | None:
    """Joins the biases of all `layers`, side by side; a layer without one has bias 0."""
    if all(layer.bias is None for layer in layers):
        return None
    zeros = (layer.weight.new_zeros(len(layer.weight)) for layer in layers)
    return torch.cat(
        [zero if x.bias is None else x.bias for x, zero in zip(layers, zeros, strict=True)]
    )


def pick_product(dtype: str, like: Tensor, parameters: int) -> type[Product]:
    """The kind of product that is fastest with weights such as `like`, as far as there is memory
    for it beside so many `parameters`; that of int8 where it is asked for."""
    room = COPY_SHARE * machine.total_memory(like.device)
    if dtype == INT8:
        return QuickInt8Product if like.itemsize * parameters <= room else Int8Product
    fits = HALF_BYTES * parameters <= room
    return HalfProduct if machine.can_halve(like) and fits else Product

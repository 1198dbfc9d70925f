"""Weights of linear layers, each kind as some number of rows reads it fastest on a CPU."""

import sys
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from steer.engines.hf.blocks import (
    Blocks,
    Multiply,
    from_words,
    in_eight_bits,
    in_four_bits,
    in_words,
)
from steer.engines.hf.compiled import kernels_for
from steer.models import machine
from steer.models.base import INT8

COPY_SHARE = 1 / 20
"""Share of the memory for a second copy of the weights."""

HALF_BYTES = 2
"""Bytes of a weight of fp16."""

# Rows up to which compiled products are faster than PyTorch's: docs/performance.md.
WORD_ROWS = 48
ROUNDED_ROWS = {torch.float32: 48, torch.bfloat16: 20}


class Product:
    """x -> weight x + bias, for x (rows, in) and `weight` (out, in). The columns of an adapter,
    `up` (out, ranks), stand beside the weight's.

    PyTorch's CPU kernels reorder bf16 weights at every call; for few rows that takes longer than
    the product. Where the processor can, they are reordered once, as PyTorch's compiler does it:
    by the first call, as weights that are only merged with an adapter are never called.
    `rounds` says whether a weight's rows lose what is small beside their largest value,
    `merges` whether an adapter may be added into the weight, and `lends` whether few rows may read
    an adapter's first matrices as they are.
    """

    rounds, merges = False, True
    group, copies = 1, 1  # how `read` wants a row's parts: filled up to, how often the second
    packed, lends = False, True

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

    def read(self, rows: Tensor) -> Tensor:
        """The same where x and `low` stand beside each other, as `group` and `copies` say."""
        return self(rows)

    def apart(self, x: Tensor) -> bool:
        """Whether x is read without weights that are merged with an adapter, as these are not
        among those that fp16 holds."""
        return False

    @classmethod
    def of(cls, weight: Tensor) -> "type[Product]":
        """The kind of product for this weight, where this kind is wanted."""
        return cls

    @classmethod
    def small(cls) -> "type[Product]":
        """The kind for an adapter's first matrices beside it."""
        return SmallProduct

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
        if not self.apart(x):
            return super().__call__(x)
        assert self.half is not None
        return machine.half_linear(x, *self.half)

    def apart(self, x: Tensor) -> bool:
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
        if _compiles(weight):
            return Compiled4Product if machine.is_int4(weight) else Compiled8Product
        return Int4Product if machine.is_int4(weight) else cls

    def __call__(self, x: Tensor) -> Tensor:
        return self.many(x) if len(x) > self.few else super().__call__(x)


class Int4Product(Product):
    """The same for a weight that was stored in four bits, of which few rows read an eighth of what
    fp32 reads. An adapter's columns are there twice, so that they keep eight."""

    merges = False
    group, copies = machine.GROUP, 2

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        steps, scales, rounded = machine.to_int4(weight, up)
        self.quarter, self.scales = machine.pack_int4(steps, scales)
        super().__init__(rounded.to(weight.dtype), bias)
        self.outputs, self.few = len(weight), machine.rounded_rows(weight)

    @classmethod
    def small(cls) -> type[Product]:
        return QuickInt8Product

    def __call__(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        if len(x) > self.few:
            return super().__call__(x if low is None else torch.cat((x, low), dim=1))
        return self.read(machine.in_groups(x, low, self.copies))

    with_low = __call__

    def read(self, rows: Tensor) -> Tensor:
        product = machine.int4_linear(rows, self.quarter, self.scales, self.outputs)
        return product if self.bias is None else product + self.bias


class CompiledProduct(Product):
    """The same where up to `few` rows read a second copy of the weights, the `blocks`, by compiled
    products."""

    few: int
    blocks: Blocks | None
    times = 1  # how often an adapter's columns stand in the blocks

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        multiply = _multiply(weight)
        assert multiply
        self.multiply = multiply

    def takes(self, rows: int) -> bool:
        """Whether so many rows read the copy, if there is one."""
        return rows <= self.few and self.blocks is not None

    def __call__(self, x: Tensor, low: Tensor | None = None) -> Tensor:
        if not self.takes(len(x)):
            return super().__call__(x if low is None else torch.cat((x, low), dim=1))
        return self._read(x if low is None else machine.in_groups(x, low, self.times))

    with_low = __call__

    def adapted(self, x: Tensor, down: "CompiledProduct", on: int) -> Tensor:
        """The product of few rows with what `down` makes of the first `on` beside them."""
        return self._read(x, down.blocks, on)

    def _read(self, rows: Tensor, down: Blocks | None = None, on: int = 0) -> Tensor:
        assert self.blocks
        product = self.multiply(rows, self.blocks, down, on, self.times)
        return product if self.bias is None else product.add_(self.bias)


class WordsProduct(CompiledProduct):
    """The same with words of 16 bits: bf16 as it is, and fp32 as fp16 where that holds the weight;
    an adapter's columns are then there twice, as what fp16 holds of them and what is left."""

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        self.few, self.width = WORD_ROWS, weight.shape[1]
        self.halves = weight.dtype == torch.float32
        self.times = 2 if self.halves else 1

    @classmethod
    def small(cls) -> type[Product]:
        return ExactProduct

    @cached_property
    def blocks(self) -> Blocks | None:  # type: ignore[override]
        weight, up = self.dense.tensor_split((self.width,), dim=1)
        if not self.halves:
            return in_words([weight, up])
        held = machine.held_by_half(weight)
        return None if held is None else in_words([held, up.half(), (up - up.half()).half()])

    def apart(self, x: Tensor) -> bool:
        return self.halves and self.takes(len(x))


class ExactProduct(CompiledProduct):
    """The same with words of the usual dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        self.few = sys.maxsize if self.multiply.tiles else WORD_ROWS

    @cached_property
    def blocks(self) -> Blocks:  # type: ignore[override]
        return in_words([self.dense])


class TiledProduct(CompiledProduct):
    """The same in bf16 by tiles, which any number of rows reads: there is no other copy once there
    are blocks."""

    few, lends = sys.maxsize, False

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        super().__init__(weight, bias, up)
        self.widths = [weight.shape[1], self.weight.shape[1] - weight.shape[1]]

    @classmethod
    def small(cls) -> type[Product]:
        return ExactProduct

    @cached_property
    def blocks(self) -> Blocks:  # type: ignore[override]
        made = in_words(self.weight.split(self.widths, dim=1))
        self.weight = self.weight.new_empty(len(self.weight), 0)
        return made

    @property
    def dense(self) -> Tensor:
        return self.weight if self.weight.numel() else from_words(self.blocks, self.widths)


class Compiled8Product(CompiledProduct):
    """The same with the weight in int8; more rows read the rounded values in the usual dtype."""

    rounds, lends = True, False

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        whole = _beside(weight, up)
        values, scales = machine.to_int8(whole)
        super().__init__(machine.from_int8(values, scales, whole.shape[1]).to(weight.dtype), bias)
        parts = values[:, : whole.shape[1]].tensor_split((weight.shape[1],), dim=1)
        self.few, self.blocks = ROUNDED_ROWS[weight.dtype], in_eight_bits(parts, scales)

    @classmethod
    def small(cls) -> type[Product]:
        return cls


class Compiled4Product(CompiledProduct):
    """The same for a weight that was stored in four bits, as in `Int4Product`."""

    merges, lends, times = False, False, 2

    def __init__(self, weight: Tensor, bias: Tensor | None, up: Tensor | None = None) -> None:
        steps, scales, rounded = machine.to_int4(weight, up)
        super().__init__(rounded.to(weight.dtype), bias)
        self.few, self.blocks = ROUNDED_ROWS[weight.dtype], in_four_bits(steps, scales)

    @classmethod
    def small(cls) -> type[Product]:
        return Compiled8Product


def pick_product(dtype: str, like: Tensor, parameters: int) -> type[Product]:
    """The kind of product that is fastest with weights such as `like`, as far as there is memory
    for it beside so many `parameters`; that of int8 where it is asked for."""
    room = COPY_SHARE * machine.total_memory(like.device)
    if dtype == INT8:
        return QuickInt8Product if like.itemsize * parameters <= room else Int8Product
    if _tiles(like):
        return TiledProduct
    fits = HALF_BYTES * parameters <= room
    if fits and _compiles(like):
        return WordsProduct
    return HalfProduct if machine.can_halve(like) and fits else Product


def _compiles(weight: Tensor) -> bool:
    """Whether there are compiled products for such weights."""
    return _multiply(weight) is not None


def _tiles(weight: Tensor) -> bool:
    """Whether they are for any number of rows."""
    multiply = _multiply(weight)
    return multiply is not None and multiply.tiles


def _multiply(weight: Tensor) -> Multiply | None:
    kernels = kernels_for(weight)
    return kernels.multiply if kernels else None

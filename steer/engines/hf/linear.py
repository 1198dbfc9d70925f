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

import torch
from torch import Tensor, nn

from steer.engines.hf.compiled import Kernels
from steer.engines.hf.products import CompiledProduct, Product


class Switch:
    """State of the adapters in the next forward pass: one is on for the first `on` rows; with
    `merged` for all of them, from weights that have the adapter added in. Where there are several,
    `numbers` (rows,) says which: the first is 1, and 0 is none. With `compiled` the `kernels` may
    compute."""

    on = 0
    merged = False
    numbers: Tensor | None = None

    def __init__(self, kernels: Kernels | None = None) -> None:
        self.kernels, self.compiled = kernels, False


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
        self.down = product.small()(down, None) if len(down) else None
        up = torch.cat(ups, dim=1) if self.down else None
        self.both = product(weight, _bias(layers), up)
        self.compiled, self.first = _as_one(self.both, self.down), None
        if switch.kernels and len(downs) == 1 and self.both.lends:
            self.first = down.contiguous()
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
        if self.switch.merged and self.merged and not self.both.apart(x):
            return self.merged(x)
        if not self.down:
            return self.both(x)
        if self.compiled and self.owners is None and self.compiled[0].takes(len(x)):
            return self.compiled[0].adapted(x, self.compiled[1], self.switch.on)
        if self.first is not None and self._compiles(x):
            assert self.switch.kernels
            on, both = self.switch.on, self.both
            return both.read(self.switch.kernels.beside(x, self.first, on, both.group, both.copies))
        low = self.down(x)
        if self.switch.on < len(low):
            low[self.switch.on :].zero_()
        if self.owners is not None:
            assert self.switch.numbers is not None
            low.masked_fill_(self.switch.numbers.unsqueeze(1) != self.owners, 0.0)
        return self.both.with_low(x, low)

    def _compiles(self, x: Tensor) -> bool:
        """Whether kernels multiply the adapter's first matrices with x."""
        switch = self.switch
        return switch.compiled and switch.kernels is not None and switch.kernels.adapt(x.shape[0])

    def merge(self) -> None:
        """Keeps a second copy of the weights, with the adapter added in; once. None where it may
        not stand beside them: rounding would take of it what is small."""
        if self.down and self.product.merges and not self.merged:
            down, both = self.down.dense.float(), self.both.dense
            base, up = both.tensor_split((down.shape[1],), dim=1)
            # In place: new memory, page by page, takes longer than the product.
            merged = base.to(torch.float32, copy=True).addmm_(up.float(), down)
            self.merged = self.product(merged.to(both.dtype), self.both.bias)


def _as_one(both: Product, down: Product | None) -> tuple[CompiledProduct, CompiledProduct] | None:
    """Both where they can be one product."""
    if isinstance(both, CompiledProduct) and isinstance(down, CompiledProduct):
        return both, down
    return None


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

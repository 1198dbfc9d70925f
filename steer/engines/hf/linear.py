"""One copy of the base weights, an adapter on for the leading lanes of a batch and off for the
rest, so that one forward pass serves the expert and the base model. There may be several adapters:
each of the leading lanes then has the one of its number.

For few rows a linear layer costs its start, not its arithmetic. So the layers that read the same
tensor (queries, keys and values; gate and up) are one product, and the adapter is one more. What
its first matrices make of the tensor stands beside the tensor, set to zero where the adapter is
off; its second matrices stand beside the base weights. Those of several adapters stand side by
side.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from steer.errors import SteerError
from steer.models import machine
from steer.models.base import attach_adapter


class Switch:
    """State of the adapters in the next forward pass: one is on for the first `lanes` entries of
    the batch; with `merged` for all of them, from weights that have the adapter added in. Where
    there are several, `numbers` (entries,) says which: the first is 1, and 0 is none."""

    lanes = 0
    merged = False
    numbers: Tensor | None = None


class Product:
    """x -> weight x + bias, `weight` (out, in).

    PyTorch's CPU kernels reorder bf16 weights at every call; for few rows that takes longer than
    the product. Where the processor can, they are reordered once, as PyTorch's compiler does it:
    by the first call, as weights that are only merged with an adapter are never called.
    `rounds` says whether a weight's rows lose what is small beside their largest value.
    """

    rounds = False
    packed = False

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self.packs = machine.can_pack(weight)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packs and not self.packed:
            self.weight, self.packed = machine.pack(self.weight), True
        if self.packed:
            return machine.packed_linear(x, self.weight, self.bias)
        return nn.functional.linear(x, self.weight, self.bias)

    def reads_half(self, x: Tensor) -> bool:
        """Whether a product with x reads weights of fp16 (see `HalfProduct`)."""
        return False

    @property
    def dense(self) -> Tensor:
        """The weight (out, in) as it came."""
        return self.weight.to_dense() if self.packed else self.weight


class HalfProduct(Product):
    """The same, for weights of fp32 that fp16 holds: few rows read half as many bytes, from a copy
    that the first of them makes. Without AVX-512, PyTorch's products of two to a dozen rows in fp32
    take twice as long as those of one; these do not."""

    half: tuple[Any, int] | None = None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        self.halves = machine.can_halve(weight)

    def __call__(self, x: Tensor) -> Tensor:
        if not self.reads_half(x):
            return super().__call__(x)
        assert self.half is not None
        return machine.half_linear(x, *self.half)

    def reads_half(self, x: Tensor) -> bool:
        if not self.halves or x.shape[:-1].numel() > machine.FEW_ROWS:
            return False
        if self.half is None:
            self.half = machine.to_half(self.weight, self.bias)
            self.halves = self.half is not None
        return self.halves


class Int8Product(Product):
    """The same with the weight in int8, a quarter of what fp32 reads from memory."""

    rounds = True

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.scales = machine.to_int8(weight)
        self.bias, self.columns, self.dtype = bias, weight.shape[1], weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        product = machine.int8_linear(x, self.weight, self.scales)
        return product if self.bias is None else product + self.bias

    @property
    def dense(self) -> Tensor:
        """The weight (out, in), as it was rounded."""
        return machine.from_int8(self.weight, self.scales, self.columns).to(self.dtype)


@dataclass(slots=True)
class _Read:
    """Last input of a `Joint`, its outputs, and how many of its layers are still to ask."""

    x: Tensor
    outputs: Tensor
    waiting: int


class Joint:
    """Linear layers that read the same tensor, as one: base(x), plus the low-rank update for the
    first `switch.lanes` entries of the batch.

    `layers` are plain linear layers, or PEFT's around one with the adapters called `adapters`. With
    several, `owners` (all their ranks,) has the number of the adapter that each column of
    `down`'s is of.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        adapters: Sequence[str],
        switch: Switch,
        product: type[Product] = Product,
    ) -> None:
        bases = [_base(layer) for layer in layers]
        self.members, self.switch, self.product = len(layers), switch, product
        weights, downs = [torch.cat([base.weight.detach() for base in bases])], []
        for adapter in adapters:
            own, ups = zip(*(_low_rank(layer, adapter) for layer in layers), strict=True)
            down, up = torch.cat(own), torch.block_diag(*ups)
            if product.rounds:
                sizes = _sizes(up, weights[0])
                down, up = down * sizes.unsqueeze(1), up / sizes
            downs.append(down)
            weights.append(up)
        down = torch.cat(downs) if downs else weights[0][:0]
        self.down = Product(down, None) if len(down) else None
        self.both = product(torch.cat(weights, dim=1), _bias(bases))
        ranks = torch.tensor([len(each) for each in downs], device=down.device)
        numbers = torch.arange(1, len(downs) + 1, device=down.device)
        self.owners = numbers.repeat_interleave(ranks) if len(downs) > 1 else None
        self.merged: Product | None = None
        self.last: _Read | None = None

    @property
    def weights(self) -> list[Tensor]:
        """Weights that a guided pass reads."""
        parts = (self.both.weight, self.both.bias, self.down.weight if self.down else None)
        return [part for part in parts if part is not None]

    def read(self, x: Tensor) -> Tensor:
        """Gives all outputs side by side (..., features), computed for the first layer that asks
        and handed to the others, which come with the same `x`."""
        if self.last is None or self.last.x is not x:
            self.last = _Read(x, self(x), self.members)
        outputs = self.last.outputs
        self.last.waiting -= 1
        if not self.last.waiting:
            self.last = None
        return outputs

    def __call__(self, x: Tensor) -> Tensor:
        # Merged weights are not among those that fp16 holds.
        if self.switch.merged and self.merged and not self.both.reads_half(x):
            return self.merged(x)
        if not self.down:
            return self.both(x)
        low = self.down(x)
        low[self.switch.lanes :].zero_()
        if self.owners is not None:
            assert self.switch.numbers is not None
            numbers = self.switch.numbers.view(-1, *(1 for _ in low.shape[1:]))
            low.masked_fill_(numbers != self.owners, 0.0)
        return self.both(torch.cat((x, low), dim=-1))

    def merge(self) -> None:
        """Keeps a second copy of the weights, with the adapter added in; once."""
        if self.down and not self.merged:
            down, both = self.down.dense.float(), self.both.dense
            base, up = both.tensor_split((down.shape[1],), dim=1)
            # In place: new memory, page by page, takes longer than the product.
            merged = base.to(torch.float32, copy=True).addmm_(up.float(), down)
            self.merged = self.product(merged.to(both.dtype), self.both.bias)


class Part(nn.Module):
    """One of the layers of a `Joint`: its columns."""

    def __init__(self, joint: Joint, start: int, stop: int) -> None:
        super().__init__()
        self.joint, self.columns = joint, slice(start, stop)

    def forward(self, x: Tensor) -> Tensor:
        return self.joint.read(x)[..., self.columns]


class Single(nn.Module):
    """A linear layer that stands alone, as a `Product`."""

    def __init__(self, linear: nn.Linear, product: type[Product] = Product) -> None:
        super().__init__()
        self.product = product(linear.weight.detach(), linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)


def _base(layer: nn.Module) -> nn.Linear:
    return cast(nn.Linear, layer.get_base_layer() if isinstance(layer, LoraLinear) else layer)


def _low_rank(layer: nn.Module, adapter: str) -> tuple[Tensor, Tensor]:
    """The adapter's matrices (rank, in) and, scaled, (out, rank); of rank 0 where the layer has
    none of it."""
    weight = _base(layer).weight.detach()
    if not isinstance(layer, LoraLinear) or adapter not in layer.lora_A:
        return weight[:0], weight[:, :0]
    down: Any = layer.lora_A[adapter].weight
    up: Any = layer.lora_B[adapter].weight
    return down.detach().to(weight.dtype), (up * layer.scaling[adapter]).detach().to(weight.dtype)


def _sizes(up: Tensor, weight: Tensor) -> Tensor:
    """Powers of two (rank,) by which the columns of `up` (out, rank) are larger than the rows of
    `weight` (out, in): divided by them, which is exact, both round alike."""
    if not up.numel():
        return up.new_ones(up.shape[1])
    larger = up.abs().amax(dim=0).float() / weight.abs().amax(dim=1).float().median()
    larger = torch.where((larger > 0) & larger.isfinite(), larger, 1.0)
    return larger.log2().round().exp2().to(up.dtype)


def _bias(layers: Sequence[nn.Linear]) -> Tensor | None:
    """Joins the biases of all `layers`, side by side; a layer without one has bias 0."""
    if all(layer.bias is None for layer in layers):
        return None
    zeros = (layer.weight.new_zeros(layer.out_features) for layer in layers)
    return torch.cat(
        [zero if x.bias is None else x.bias.detach() for x, zero in zip(layers, zeros, strict=True)]
    )


def pack(model: nn.Module, product: type[Product] = Product) -> None:
    """Replaces the remaining linear layers whose weights can be packed, or are to be another
    `product`. It takes them one by one, so that no weights are there twice (but for an output layer
    tied to the embedding)."""
    # Paths, not layers: a list of layers would keep the old weights until its end.
    for path in [path for path, layer in model.named_modules() if type(layer) is nn.Linear]:
        layer = cast(nn.Linear, model.get_submodule(path))
        if product is not Product or machine.can_pack(layer.weight):
            _replace(model, path, Single(layer, product))
        del layer


def merge(model: nn.Module) -> None:
    """Keeps a second copy of the layers with an adapter, merged with it; once."""
    for joint in joints(model):
        joint.merge()


def merged_bytes(model: nn.Module) -> int:
    """Bytes of memory that `merge` takes or took."""
    weights = [joint.both.weight for joint in joints(model) if joint.down]
    return sum(weight.numel() * weight.element_size() for weight in weights)


def joints(model: nn.Module) -> list[Joint]:
    """Lists the model's `Joint` layers, each once."""
    parts = (layer for layer in model.modules() if isinstance(layer, Part))
    return list(dict.fromkeys(part.joint for part in parts))


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def join(
    model: PreTrainedModel, adapters: Sequence[Path], product: type[Product] = Product
) -> Switch:
    """Puts the LoRA adapters in these folders, if any, into `model`, and joins its linear layers
    that read the same tensor, in place.

    Raises `SteerError` when an adapter does not fit the model or is more than LoRA on linear
    layers (DoRA, trained embeddings, biases).
    """
    switch = Switch()
    groups = _readers(model)
    names = _attach(model, adapters)
    adapted = {path for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}
    # A single layer without an adapter is as good as it is.
    for group in groups:
        if len(group) > 1 or group[0] in adapted:
            _join(model, group, names, switch, product)
    model.requires_grad_(False)
    return switch


def _readers(model: PreTrainedModel) -> list[list[str]]:
    """Finds the paths of the linear layers that are called once in a forward pass, in the order of
    their calls, those that read the same tensor together."""
    calls: list[tuple[str, Tensor]] = []
    with _watching(model, calls), torch.inference_mode():
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    paths = [path for path, _ in calls]
    once = [(path, x) for path, x in calls if paths.count(path) == 1]
    grouped = groupby(once, key=lambda call: id(call[1]))
    return [[path for path, _ in group] for _, group in grouped]


@contextmanager
def _watching(model: nn.Module, calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Notes each call of a linear layer and what it read; keeping the tensors keeps their ids."""
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, given, path=path: calls.append((path, given[0]))  # type: ignore[misc]
        )
        for path, layer in model.named_modules()
        if type(layer) is nn.Linear
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _join(
    model: nn.Module,
    group: Sequence[str],
    adapters: Sequence[str],
    switch: Switch,
    product: type[Product],
) -> None:
    layers = [model.get_submodule(path) for path in group]
    joint, start = Joint(layers, adapters, switch, product), 0
    for path, layer in zip(group, layers, strict=True):
        stop = start + _base(layer).out_features
        _replace(model, path, Part(joint, start, stop))
        start = stop


def _attach(model: PreTrainedModel, adapters: Sequence[Path]) -> list[str]:
    """Puts the adapters into `model`; returns their names. Raises `SteerError` for all but plain
    LoRA on linear layers."""
    peft: PeftModel | None = None
    names: list[str] = []
    for adapter in adapters:
        name = f"steer{len(names) + 1}"
        peft = attach_adapter(model, adapter, name, peft)
        _require_plain(model, peft, adapter, name)
        names.append(name)
    return names


def _require_plain(model: PreTrainedModel, peft: PeftModel, adapter: Path, name: str) -> None:
    config = peft.peft_config[name]
    if getattr(config, "bias", "none") != "none" or getattr(config, "modules_to_save", None):
        raise SteerError(f"the adapter in {adapter} trains more than LoRA layers; fit it without")
    if peft.get_base_model() is not model:
        raise SteerError(f"the adapter in {adapter} is of a kind that replaces the model")
    layers = {
        path: layer for path, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)
    }
    if not layers:
        raise SteerError(f"the adapter in {adapter} matches no layer of its base model")
    for path, layer in layers.items():
        if not isinstance(layer, LoraLinear) or layer.use_dora.get(name):
            raise SteerError(
                f"the adapter in {adapter} has {type(layer).__name__} at {path}; "
                "only plain LoRA on linear layers can be switched per row"
            )

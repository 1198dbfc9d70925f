"""One copy of the base weights, the adapter on for the leading lanes of a batch and off for the
rest, so that one forward pass serves the expert and the base model.

For few rows a linear layer costs its start, not its arithmetic. So the layers that read the same
tensor (queries, keys and values; gate and up) are one product, with the adapter's first matrices
appended to it, and the adapter's second matrices are one more.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from steer.errors import SteerError
from steer.quiet import quiet_logs


class Switch:
    """How the next forward pass reads the weights: the adapter is on for the first `lanes` entries
    of the batch; with `merged` for all of them, from weights that have the adapter added in."""

    lanes = 0
    merged = False


class Joint(nn.Module):
    """Linear layers that read the same tensor, as one: base(x), plus the low-rank update for the
    first `switch.lanes` entries of the batch.

    `layers` are plain linear layers, or PEFT's around one with the adapter called `adapter`.
    """

    def __init__(self, layers: Sequence[nn.Module], adapter: str, switch: Switch) -> None:
        super().__init__()
        bases = [_base(layer) for layer in layers]
        pairs = [_low_rank(layer, adapter) for layer in layers]
        self.members, self.switch = len(layers), switch
        self.features = sum(base.out_features for base in bases)
        weights = [base.weight for base in bases] + [down for down, _ in pairs]
        self.both: nn.Module = _linear(weights, [base.bias for base in bases])
        self.merged: nn.Module | None = None
        up = torch.block_diag(*(up for _, up in pairs))
        self.up: nn.Module | None = _linear([up], [None]) if up.numel() else None
        # Read x, its outputs, readers left. A list, as a module is slow to set attributes of.
        self.last: list[Any] = [None, None, 0]

    def read(self, x: Tensor) -> Tensor:
        """All outputs side by side (..., features and more), computed for the first layer that
        asks and handed to the others, which come with the same `x`."""
        last = self.last
        if last[0] is not x:
            last[:] = x, self(x), self.members
        y: Tensor = last[1]
        last[2] -= 1
        if not last[2]:
            last[:2] = None, None
        return y

    def forward(self, x: Tensor) -> Tensor:
        if self.switch.merged and self.merged is not None:
            return cast(Tensor, self.merged(x))
        both: Tensor = self.both(x)
        on = self.switch.lanes
        if on and self.up is not None:
            base, down = both[:on].tensor_split((self.features,), dim=-1)
            base.add_(self.up(down))
        return both

    def merge(self) -> None:
        """Keep a second copy of the weights, with the adapter added in."""
        assert self.up is not None
        weight, up = _dense(self.both), _dense(self.up)
        base, down = weight[: self.features].float(), weight[self.features :].float()
        bias = cast(Tensor | None, self.both.bias)
        kept = None if bias is None else bias[: self.features]
        self.merged = _linear([(base + up.float() @ down).to(weight.dtype)], [kept])


class Part(nn.Module):
    """One of the layers of a `Joint`: its columns."""

    def __init__(self, joint: Joint, start: int, stop: int) -> None:
        super().__init__()
        self.joint, self.columns = joint, slice(start, stop)

    def forward(self, x: Tensor) -> Tensor:
        return self.joint.read(x)[..., self.columns]


def _base(layer: nn.Module) -> nn.Linear:
    return cast(nn.Linear, layer.get_base_layer() if isinstance(layer, LoraLinear) else layer)


def _low_rank(layer: nn.Module, adapter: str) -> tuple[Tensor, Tensor]:
    """The adapter's matrices (rank, in) and, scaled, (out, rank); of rank 0 without an adapter."""
    weight = _base(layer).weight.detach()
    if not isinstance(layer, LoraLinear):
        return weight[:0], weight[:, :0]
    down: Any = layer.lora_A[adapter].weight
    up: Any = layer.lora_B[adapter].weight
    return down.detach().to(weight.dtype), (up * layer.scaling[adapter]).detach().to(weight.dtype)


def _dense(layer: nn.Module) -> Tensor:
    weight = cast(Tensor, layer.weight)
    return weight.to_dense() if weight.is_mkldnn else weight


def _linear(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> nn.Linear:
    """The rows of all `weights` as one layer; a row without a bias has bias 0."""
    weight = torch.cat([each.detach() for each in weights])
    given = any(bias is not None for bias in biases)
    made = nn.Linear(weight.shape[1], len(weight), bias=given, device="meta")
    made.weight = nn.Parameter(weight, requires_grad=False)
    if given:
        padded = [*biases, *[None] * (len(weights) - len(biases))]
        found = [
            rows.new_zeros(len(rows)) if bias is None else bias.detach()
            for rows, bias in zip(weights, padded, strict=True)
        ]
        made.bias = nn.Parameter(torch.cat(found), requires_grad=False)
    return made


class PackedLinear(nn.Module):
    """A linear layer whose bf16 weights lie as the processor's kernels read them.

    PyTorch's CPU kernels reorder bf16 weights at every call; for few rows that takes longer than
    the product. Reordering once is what its compiler does too.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def pack(model: nn.Module) -> None:
    """Replace the bf16 linear layers of a model on a CPU by packed ones, one by one, so that the
    weights are never there twice (but for an output layer tied to the embedding)."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    # Paths, not layers: a list of layers would keep the old weights until its end.
    for path in [path for path, layer in model.named_modules() if type(layer) is nn.Linear]:
        weight = cast(Tensor, model.get_submodule(path).weight)
        if weight.is_cpu and weight.dtype == torch.bfloat16:
            _replace(model, path, PackedLinear(cast(nn.Linear, model.get_submodule(path))))


def merge(model: nn.Module) -> None:
    """Keep a second copy of the layers with an adapter, merged with it; once."""
    for joint in _adapted(model):
        if joint.merged is None:
            joint.merge()
            pack(joint)


def merged_bytes(model: nn.Module) -> int:
    """How much memory `merge` takes or took."""
    weights = [cast(Tensor, joint.both.weight) for joint in _adapted(model)]
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _adapted(model: nn.Module) -> list[Joint]:
    found = (layer for layer in model.modules() if isinstance(layer, Joint))
    return [joint for joint in found if joint.up is not None]


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def join(model: PreTrainedModel, adapter: Path | None) -> Switch:
    """Put the LoRA adapter in folder `adapter`, if any, into `model`, and join its linear layers
    that read the same tensor, in place.

    Raises `SteerError` when the adapter does not fit the model or is more than LoRA on linear
    layers (DoRA, trained embeddings, biases).
    """
    switch = Switch()
    groups = _readers(model)
    name = _attach(model, adapter) if adapter else ""
    adapted = {path for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}
    # A single layer without an adapter is as good as it is.
    for group in groups:
        if len(group) > 1 or group[0] in adapted:
            _join(model, group, name, switch)
    model.requires_grad_(False)
    return switch


def _readers(model: PreTrainedModel) -> list[list[str]]:
    """The paths of the linear layers that are called once in a forward pass, in the order of their
    calls, those that read the same tensor together."""
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


def _join(model: nn.Module, group: Sequence[str], adapter: str, switch: Switch) -> None:
    layers = [model.get_submodule(path) for path in group]
    joint, start = Joint(layers, adapter, switch), 0
    for path, layer in zip(group, layers, strict=True):
        stop = start + _base(layer).out_features
        _replace(model, path, Part(joint, start, stop))
        start = stop


def _attach(model: PreTrainedModel, adapter: Path) -> str:
    """Lets PEFT put the adapter into `model`; its name."""
    try:
        with quiet_logs():
            peft = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SteerError(
            f"the adapter in {adapter} does not fit its base model: {reason}"
        ) from None
    name = str(peft.active_adapter)
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
    return name

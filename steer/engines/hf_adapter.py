"""One copy of the base weights, the adapter on for the leading lanes of a batch and off for the
rest, so that one forward pass serves the expert and the base model."""

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
    """How many leading lanes of the next forward pass have the adapter on."""

    lanes = 0


class SwitchedLinear(nn.Module):
    """base(x), plus the low-rank update for the first `switch.lanes` entries of the batch.

    The adapter's first matrix is appended to the base weights, so that one product gives both:
    for few rows each product costs its overhead, for many the extra columns are next to nothing.
    """

    up: Tensor

    def __init__(self, lora: LoraLinear, adapter: str, switch: Switch) -> None:
        super().__init__()
        base: Any = lora.get_base_layer()
        down: Any = lora.lora_A[adapter].weight
        up: Any = lora.lora_B[adapter].weight
        dtype = base.weight.dtype
        self.features, self.switch = base.out_features, switch
        self.both = nn.Linear(
            base.in_features, self.features + len(down), bias=base.bias is not None, device="meta"
        )
        self.both.weight = _frozen(torch.cat([base.weight, down.to(dtype)]))
        if base.bias is not None:
            self.both.bias = _frozen(torch.cat([base.bias, base.bias.new_zeros(len(down))]))
        self.register_buffer("up", (up * lora.scaling[adapter]).detach().to(dtype).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        both: Tensor = self.both(x)
        on = self.switch.lanes
        if on:
            flat = both[:on].view(-1, both.shape[-1])
            flat[:, : self.features].addmm_(flat[:, self.features :], self.up)
        return both[..., : self.features]


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)


class PackedLinear(nn.Module):
    """A linear layer whose bf16 weights lie as the processor's kernels read them.

    PyTorch's CPU kernels reorder bf16 weights at every call; for few rows that takes longer than
    the product. Reordering once is what its compiler does too.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.features = linear.out_features
        self.bias = linear.bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y: Tensor = torch.ops.mkldnn._linear_pointwise(flat, self.weight, self.bias, "none", [], "")
        return y.view(*x.shape[:-1], self.features)


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


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def attach(model: PreTrainedModel, adapter: Path) -> Switch:
    """Put the LoRA adapter in folder `adapter` into `model`, in place.

    Raises `SteerError` when the adapter does not fit the model or is more than LoRA on linear
    layers (DoRA, trained embeddings, biases).
    """
    switch = Switch()
    try:
        with quiet_logs():
            peft = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SteerError(
            f"the adapter in {adapter} does not fit its base model: {reason}"
        ) from None
    name = peft.active_adapter
    config = peft.peft_config[name]
    if getattr(config, "bias", "none") != "none" or getattr(config, "modules_to_save", None):
        raise SteerError(f"the adapter in {adapter} trains more than LoRA layers; fit it without")
    tree = peft.get_base_model()
    if tree is not model:
        raise SteerError(f"the adapter in {adapter} is of a kind that replaces the model")
    paths = [path for path, layer in tree.named_modules() if isinstance(layer, BaseTunerLayer)]
    if not paths:
        raise SteerError(f"the adapter in {adapter} matches no layer of its base model")
    for path in paths:
        layer = tree.get_submodule(path)
        if not isinstance(layer, LoraLinear) or layer.use_dora.get(name):
            raise SteerError(
                f"the adapter in {adapter} has {type(layer).__name__} at {path}; "
                "only plain LoRA on linear layers can be switched per row"
            )
        _replace(tree, path, SwitchedLinear(layer, name, switch))
    model.requires_grad_(False)
    return switch

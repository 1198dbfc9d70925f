"""One copy of the base weights, the adapter on for the leading lanes of a batch and off for the
rest, so that one forward pass serves the expert and the base model."""

from pathlib import Path
from typing import Any

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
    """base(x), plus the low-rank update for the first `switch.lanes` entries of the batch."""

    down: Tensor
    up: Tensor

    def __init__(self, lora: LoraLinear, adapter: str, switch: Switch) -> None:
        super().__init__()
        self.base: Any = lora.get_base_layer()
        weight: Any = self.base.weight
        down: Any = lora.lora_A[adapter].weight
        up: Any = lora.lora_B[adapter].weight
        scaled = up.detach() * lora.scaling[adapter]
        self.register_buffer("down", down.detach().to(weight.dtype).T.contiguous())
        self.register_buffer("up", scaled.to(weight.dtype).T.contiguous())
        self.switch = switch

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        on = self.switch.lanes
        if on:
            inputs = x[:on].reshape(-1, x.shape[-1])
            y[:on].view(-1, y.shape[-1]).addmm_(inputs @ self.down, self.up)
        return y


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
    for path, layer in list(model.named_modules()):
        if (
            type(layer) is nn.Linear
            and layer.weight.is_cpu
            and layer.weight.dtype == torch.bfloat16
        ):
            _replace(model, path, PackedLinear(layer))


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
    wrapped = [
        (path, layer) for path, layer in tree.named_modules() if isinstance(layer, BaseTunerLayer)
    ]
    if not wrapped:
        raise SteerError(f"the adapter in {adapter} matches no layer of its base model")
    for path, layer in wrapped:
        if not isinstance(layer, LoraLinear) or layer.use_dora.get(name):
            raise SteerError(
                f"the adapter in {adapter} has {type(layer).__name__} at {path}; "
                "only plain LoRA on linear layers can be switched per row"
            )
        _replace(tree, path, SwitchedLinear(layer, name, switch))
    if tree is not model:
        raise SteerError(f"the adapter in {adapter} is of a kind that replaces the model")
    with torch.no_grad():
        model.requires_grad_(False)
    return switch

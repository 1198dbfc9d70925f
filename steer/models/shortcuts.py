"""Shortcuts of a fit's passes on a CPU that computes in bf16, where PyTorch's own way is slow for
the few tokens of a step.

It reorders a weight of bf16 at every product; here the frozen weights are reordered once, for both
directions. PEFT multiplies with its adapters in fp32; here that is done in the dtype of the base
model, with the adapter's weights and their gradients still in fp32. And the backward pass of the
fused attention takes three times as long as plain products do.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from steer.models.machine import can_pack, pack, packed_linear

_NAME = "sdpa_or_plain"
_FUSED = "sdpa"
_LONGEST = 384
"""Tokens up to which plain products are faster than the fused attention, forward and backward."""


def take_shortcuts(model: Any) -> None:
    """Lets the adapted linear layers of `model`, PEFT's with one LoRA adapter, and its attention go
    the shortcuts, if they are of a dtype that the processor packs. The frozen weights are then kept
    in packed form only, twice. A model of another dtype or device stays as it is."""
    layers: list[Any] = [each for each in model.modules() if isinstance(each, LoraLinear)]
    found = [layer for layer in layers if _can_shorten(layer)]
    for layer in found:
        layer.forward = AdaptedProduct(layer)
    config = model.config.get_text_config()
    if found and config._attn_implementation == _FUSED:
        AttentionInterface.register(_NAME, attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        config._attn_implementation = _NAME


def _can_shorten(layer: LoraLinear) -> bool:
    """Whether the layer is no more than a product and one plain LoRA adapter."""
    base: Any = layer.get_base_layer()
    (name, *others) = layer.active_adapters
    plain = not (others or layer.lora_variant or layer.lora_bias[name] or layer.fan_in_fan_out)
    drops = isinstance(layer.lora_dropout[name], nn.Dropout)
    return isinstance(base, nn.Linear) and can_pack(base.weight) and plain and not drops


class AdaptedProduct:
    """x -> weight x + bias + scale up down x, for x (..., in) of the dtype of the frozen weight
    (out, in). `down` (rank, in) and `up` (out, rank) are those of a LoRA adapter, in fp32, and
    multiplied in the dtype of x."""

    def __init__(self, layer: Any) -> None:
        base, (name,) = layer.get_base_layer(), layer.active_adapters
        self.down, self.up = layer.lora_A[name].weight, layer.lora_B[name].weight
        self.scale, self.bias = layer.scaling[name], base.bias
        weight = base.weight.detach()
        self.packed, self.turned = pack(weight), pack(weight.t().contiguous())
        base.weight.data = weight.new_empty(0)  # nothing else reads it

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self.down, self.up, self)  # type: ignore[no-untyped-call]
        return y


class _Product(torch.autograd.Function):
    """The product and its gradients. With D the scaled `down`, y = W x + U D x. For a gradient g of
    y, that of x is W' g + D' U' g, that of D is U' g x', and that of U is g (D x)'."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, up: Tensor, own: AdaptedProduct) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        down, up = (down * own.scale).to(x.dtype), up.to(x.dtype)
        low = rows @ down.t()
        y = packed_linear(rows, own.packed, own.bias).addmm_(low, up.t())
        ctx.save_for_backward(rows, low, down, up)
        ctx.own, ctx.shape = own, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows, low, down, up), own = ctx.saved_tensors, ctx.own
        g = gradients[0].reshape(len(rows), -1)
        g_low = g @ up
        dx = None
        if ctx.needs_input_grad[0]:
            dx = packed_linear(g, own.turned, None).addmm_(g_low, down).view(ctx.shape)
        d_down = (g_low.t() @ rows).float().mul_(own.scale)
        return dx, d_down, (g.t() @ low).float(), None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as Transformers asks for it: of `query` (rows, heads, tokens, width), `key` and
    `value` (rows, key heads, tokens, width), (rows, tokens, heads, width). A single short row with
    a mask that is added takes plain products, others the fused attention."""
    batch, heads, tokens, width = query.shape
    short = batch == 1 and tokens <= _LONGEST and not dropout
    known = others.get("position_bias") is None and others.get("softcap") is None
    if attention_mask is None or not (attention_mask.is_floating_point() and short and known):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    kinds = key.shape[1]  # each of so many key heads is read by as many heads
    scaled = query * (width**-0.5 if scaling is None else scaling)
    scores = scaled.reshape(kinds, -1, width) @ key[0].transpose(1, 2)
    seen = scores.view(heads, tokens, -1) + attention_mask[0]
    read = seen.softmax(dim=-1).view(kinds, heads // kinds * tokens, -1) @ value[0]
    return read.view(1, heads, tokens, width).transpose(1, 2).contiguous(), None

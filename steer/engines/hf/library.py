"""Models of Transformers as lanes go through them: any that takes its attention interface, with
adapters by PEFT."""

from collections.abc import Callable, Iterator, Sequence
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
from transformers import AttentionInterface, PreTrainedModel

from steer.engines.hf.compiled import Kernels
from steer.engines.hf.lanes import Bank, Context
from steer.engines.hf.linear import Joint, Layer, Single, Switch
from steer.engines.hf.products import Product, pick_product
from steer.errors import SteerError
from steer.models import machine
from steer.models.base import attach_adapter, context_length

IMPLEMENTATION = "steer_lanes"


class Library:
    """A model of Transformers, changed in place; see `steer.engines.hf.body.Body`.

    Raises `SteerError` when it or an adapter cannot be used.
    """

    def __init__(self, module: PreTrainedModel, adapters: Sequence[Path], dtype: str) -> None:
        kind = type(module).__name__
        if not module.is_backend_compatible():
            raise SteerError(
                f"{kind} does not take Transformers' attention interface; "
                "the hf engine needs a model that does (Llama, Qwen, Mistral, ...)"
            )
        self.module, self.dtype, self.device = module, module.dtype, module.device
        self.kernels: Kernels | None = None  # Transformers is between the products
        parameters = sum(each.numel() for each in module.parameters())
        product = pick_product(dtype, next(module.parameters()), parameters)
        self.switch = join(module, adapters, product)
        pack(module, product)
        module.set_attn_implementation(IMPLEMENTATION)
        config = module.config.get_text_config()
        heads: int = config.num_attention_heads
        kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.kv_shape, self.rep = (config.num_hidden_layers, kv_heads, dim), heads // kv_heads
        self.vocab: int = config.vocab_size
        # Within a sliding window such a model attends to everything.
        window = getattr(config, "sliding_window", None)
        self.context = min(context_length(module), window or 2**31)
        declared: Any = module.generation_config
        self.ends: int | list[int] | None = declared.eos_token_id

    @property
    def joints(self) -> list[Joint]:
        """The joined linear layers, each once."""
        return joints(self.module)

    @property
    def head(self) -> nn.Module:
        """The layer that makes the logits."""
        return cast(nn.Module, self.module.get_output_embeddings())

    def __call__(self, tokens: Tensor, positions: Tensor, read: Context | Bank) -> Tensor:
        """Computes logits (lanes, vocab) after the last of `tokens` (lanes, length)."""
        logits: Tensor = self.module(
            input_ids=tokens,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            steer_read=read,
        ).logits
        return logits[:, -1]

    @contextmanager
    def watched(self, keep: Callable[[Tensor], None]) -> Iterator[None]:
        """Gives `keep` the states (lanes, length, width) that each pass makes logits of."""
        body = self.module.base_model
        if body is self.module:
            kind = type(self.module).__name__
            raise SteerError(f"{kind} hides its last layer's output; use another method")
        hook = body.register_forward_hook(lambda _, given, found: keep(found.last_hidden_state))
        try:
            yield
        finally:
            hook.remove()


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    steer_read: Context | Bank,
    **others: Any,
) -> tuple[Tensor, None]:
    """Serves Transformers' attention interface: the batch is what `steer_read` holds."""
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise SteerError(f"the hf engine does not know attention with '{name}' yet")
    out = steer_read.attend(module.layer_idx, query, key, value, scaling)
    return out.transpose(1, 2), None


AttentionInterface.register(IMPLEMENTATION, _attention)


@dataclass(slots=True)
class _Read:
    """An input of a `Joint`, its outputs, and how many of its layers are still to ask."""

    x: Tensor
    outputs: Tensor
    waiting: int


class Shared:
    """A `Joint` that Transformers' code asks layer by layer: computed for the first, and handed to
    the other `members`, which come with the same `x`."""

    def __init__(self, joint: Joint, members: int) -> None:
        self.joint, self.members = joint, members
        self.last: _Read | None = None

    def read(self, x: Tensor) -> Tensor:
        """Gives all outputs side by side (..., features)."""
        if self.last is None or self.last.x is not x:
            outputs = self.joint(x.flatten(0, -2)).view(*x.shape[:-1], -1)
            self.last = _Read(x, outputs, self.members)
        outputs = self.last.outputs
        self.last.waiting -= 1
        if not self.last.waiting:
            self.last = None
        return outputs


class Part(nn.Module):
    """One of the layers of a `Joint`: its columns."""

    def __init__(self, shared: Shared, start: int, stop: int) -> None:
        super().__init__()
        self.shared, self.columns = shared, slice(start, stop)

    def forward(self, x: Tensor) -> Tensor:
        return self.shared.read(x)[..., self.columns]


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


def _layer(layer: nn.Module, adapters: Sequence[str]) -> Layer:
    base = _base(layer)
    bias = None if base.bias is None else base.bias.detach()
    return Layer(base.weight.detach(), bias, tuple(_low_rank(layer, name) for name in adapters))


def pack(model: nn.Module, product: type[Product] = Product) -> None:
    """Replaces the remaining linear layers whose weights can be packed, or are to be another
    `product`. It takes them one by one, so that no weights are there twice (but for an output layer
    tied to the embedding)."""
    # Paths, not layers: a list of layers would keep the old weights until its end.
    for path in [path for path, layer in model.named_modules() if type(layer) is nn.Linear]:
        layer = cast(nn.Linear, model.get_submodule(path))
        if product is not Product or machine.can_pack(layer.weight):
            weight = layer.weight.detach()
            _replace(model, path, Single(product.of(weight)(weight, layer.bias)))
        del layer


def joints(model: nn.Module) -> list[Joint]:
    """Lists the model's `Joint` layers, each once."""
    parts = (layer for layer in model.modules() if isinstance(layer, Part))
    return list(dict.fromkeys(part.shared.joint for part in parts))


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
    joint = Joint([_layer(layer, adapters) for layer in layers], switch, product)
    shared, start = Shared(joint, len(layers)), 0
    for path, layer in zip(group, layers, strict=True):
        stop = start + _base(layer).out_features
        _replace(model, path, Part(shared, start, stop))
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

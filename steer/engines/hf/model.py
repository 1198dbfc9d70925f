"""The model that the hf engine's lanes go through: its weights, with an adapter on or off for each
lane, and its tokenizer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steer.engines.hf.lanes import IMPLEMENTATION, Bank, Context
from steer.engines.hf.linear import HalfProduct, Int8Product, Product, join, merge, pack
from steer.engines.masks import Masks
from steer.engines.tokens import encode, known_ids
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models import machine
from steer.models.base import (
    INT8,
    context_length,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_device,
)

COPY_SHARE = 1 / 20
"""Share of the memory for a second copy of the weights."""

HALF_BYTES = 2
"""Bytes of a weight of fp16."""


class LaneModel:
    """A base model with LoRA adapters, of which each lane of a forward pass has one or none.

    `module` is Transformers' model, whose attention and linear layers are ours; `kv_shape` is
    layers, key-value heads and their size: what a cache has for each token. `rep` query heads
    share a key-value head. `dtype` is that of the weights: with "int8" the linear layers' are
    rounded to it, and all else is as with "auto". Raises `SteerError` when the model or the adapter
    cannot be used, and for int8 on a GPU.
    """

    def __init__(self, base: str, adapters: Sequence[Path], dtype: str, device: str) -> None:
        if dtype == INT8 and pick_device(device).type != "cpu":
            raise SteerError("--dtype int8 is for a CPU: use --device cpu, or --dtype bfloat16")
        loaded = "auto" if dtype == INT8 else dtype
        self.module = load_model(base, dtype=loaded, device=device).eval()
        self.dtype = dtype if dtype == INT8 else str(self.module.dtype).removeprefix("torch.")
        self.tokenizer = load_tokenizer(base)
        self.fingerprint = model_fingerprint(base)
        if not self.module.is_backend_compatible():
            kind = type(self.module).__name__
            raise SteerError(
                f"{kind} does not take Transformers' attention interface; "
                "the hf engine needs a model that does (Llama, Qwen, Mistral, ...)"
            )
        product = Int8Product if dtype == INT8 else _product(self.module)
        self.switch = join(self.module, adapters, product)
        pack(self.module, product)
        self.module.set_attn_implementation(IMPLEMENTATION)
        config = self.module.config.get_text_config()
        heads: int = config.num_attention_heads
        kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.kv_shape = (config.num_hidden_layers, kv_heads, dim)
        self.rep = heads // kv_heads
        self.known = known_ids(self.tokenizer, config.vocab_size)
        self._masks: dict[tuple[int, ...], Masks] = {}

    @property
    def device(self) -> torch.device:
        return self.module.device

    @property
    def max_context(self) -> int:
        """Tokens of context and record together that the model can read.

        A sliding window counts as the limit: within it such a model attends to everything.
        """
        window = getattr(self.module.config.get_text_config(), "sliding_window", None)
        return min(context_length(self.module), window or 2**31)

    def merge(self, merged: bool) -> None:
        """Read weights with the adapter added in, whatever the lane, or not. They are a second
        copy, made when first wanted."""
        self.switch.merged = merged
        if merged:
            merge(self.module)

    def masks(self, ends: Tensor) -> Masks:
        """Masks of the known ids for records that `ends` (ids) end; made when first wanted. Raises
        `SteerError` as `Masks` does."""
        key = tuple(ends.tolist())
        if key not in self._masks:
            self._masks[key] = Masks(self.tokenizer, self.known.size, key)
        return self._masks[key]

    def encode(self, context: str | Shown) -> list[int]:
        """Token ids of a context."""
        return encode(self.tokenizer, context)

    def bank(self, room: int) -> Bank:
        """Makes an empty bank for `room` lanes of this model."""
        like = torch.empty(0, dtype=self.module.dtype, device=self.device)
        return Bank(self.kv_shape, self.rep, room, like)

    def forward(
        self, tokens: Tensor, positions: Tensor, read: Context | Bank, adapted: int
    ) -> Tensor:
        """Computes logits (lanes, vocab) after the last token of `tokens` (lanes, length), of the
        known ids; an adapter is on for the first `adapted` lanes, and `read` holds their caches
        and says which."""
        self.switch.lanes, self.switch.numbers = adapted, read.adapters
        logits: Tensor = self.module(
            input_ids=tokens,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            steer_read=read,
        ).logits
        return self.known.among(logits[:, -1])


def _product(module: PreTrainedModel) -> type[Product]:
    """The kind of product that is fastest with these weights, as far as there is memory for it."""
    copied = HALF_BYTES * sum(each.numel() for each in module.parameters())
    room = COPY_SHARE * machine.total_memory(module.device)
    halves = machine.can_halve(next(module.parameters()))
    return HalfProduct if halves and copied <= room else Product

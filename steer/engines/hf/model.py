"""The model that the hf engine's lanes go through: its weights, with an adapter on or off for each
lane, and its tokenizer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from steer.engines.hf.body import Body
from steer.engines.hf.lanes import Bank, Context
from steer.engines.hf.llama import LlamaBody, adapters_for
from steer.engines.masks import Masks
from steer.engines.tokens import encode, known_ids
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import (
    INT8,
    load_model,
    model_fingerprint,
    model_folder,
    pick_device,
    pick_dtype,
)
from steer.models.llama import read_llama
from steer.models.machine import warn_of_others
from steer.models.tokenizer import open_tokenizer


class LaneModel:
    """A base model with LoRA adapters, of which each lane of a forward pass has one or none.

    `dtype` is that of the weights: with "int8" the linear layers' are rounded to it, and all else
    is as with "auto". Raises `SteerError` when the model or an adapter cannot be used, and for int8
    on a GPU.
    """

    def __init__(self, base: str, adapters: Sequence[Path], dtype: str, device: str) -> None:
        if dtype == INT8 and pick_device(device).type != "cpu":
            raise SteerError("--dtype int8 is for a CPU: use --device cpu, or --dtype bfloat16")
        self.body = open_body(base, adapters, dtype, device)
        self.dtype = dtype if dtype == INT8 else str(self.body.dtype).removeprefix("torch.")
        self.tokenizer = open_tokenizer(base)
        self.fingerprint = model_fingerprint(base)
        self.known = known_ids(self.tokenizer, self.body.vocab)
        self._masks: dict[tuple[int, ...], Masks] = {}

    @property
    def device(self) -> torch.device:
        return self.body.device

    def merge(self, merged: bool) -> None:
        """Read weights with the adapter added in, whatever the lane, or not. They are a second
        copy, made when first wanted."""
        self.body.switch.merged = merged
        if merged:
            for joint in self.body.joints:
                joint.merge()

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
        like = torch.empty(0, dtype=self.body.dtype, device=self.device)
        return Bank(self.body.kv_shape, self.body.rep, room, like, self.body.kernels)

    def forward(
        self, tokens: Tensor, positions: Tensor, read: Context | Bank, adapted: int
    ) -> Tensor:
        """Computes logits (lanes, vocab) after the last token of `tokens` (lanes, length), of the
        known ids; an adapter is on for the first `adapted` lanes, and `read` holds their caches
        and says which."""
        switch, length = self.body.switch, tokens.shape[1]
        switch.on, switch.numbers = adapted * length, read.adapters
        if read.adapters is not None and length > 1:
            switch.numbers = read.adapters.repeat_interleave(length)
        return self.known.among(self.body(tokens, positions, read))


def open_body(base: str, adapters: Sequence[Path], dtype: str, device: str) -> Body:
    """Loads a model and adapters for it: our own pass where it knows them all, Transformers' with
    any other. Raises `SteerError` when one cannot be used."""
    loaded = "auto" if dtype == INT8 else dtype
    model = read_llama(model_folder(base))
    read = adapters_for(model, adapters) if model else None
    if model is None or read is None:
        from steer.engines.hf.library import Library  # slow to load

        return Library(load_model(base, dtype=loaded, device=device), adapters, dtype)
    where = pick_device(device)
    like = torch.empty(0, dtype=pick_dtype(loaded, where), device=where)
    body = LlamaBody(model, read, dtype, like)
    if where.type == "cpu":
        warn_of_others()
    return body

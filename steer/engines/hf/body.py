"""What the hf engine's lanes go through: a model whose linear layers are ours, whoever's the rest
is."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from steer.engines.hf.compiled import Kernels
from steer.engines.hf.lanes import Bank, Context
from steer.engines.hf.linear import Joint, Switch


class Body(Protocol):
    """A model with adapters, of which each lane of a pass has one or none, as `switch` says.

    `kv_shape` is layers, key-value heads and their size: what a cache has for each token. `rep`
    query heads share a key-value head. There are logits for `vocab` ids, `context` is how many
    tokens the model can read, and `ends` the ids that it declares to end a text. `joints` are its
    linear layers that can have an adapter, and `head` the one that makes the logits. With
    `kernels` a few lanes are read by them.
    """

    switch: Switch
    kv_shape: tuple[int, int, int]
    rep: int
    vocab: int
    context: int
    ends: int | list[int] | None
    dtype: torch.dtype
    device: torch.device
    kernels: Kernels | None

    @property
    def joints(self) -> list[Joint]: ...

    @property
    def head(self) -> nn.Module: ...

    def __call__(self, tokens: Tensor, positions: Tensor, read: Context | Bank) -> Tensor:
        """Computes logits (lanes, vocab) after the last of `tokens` (lanes, length); `read` holds
        the lanes' caches."""
        ...

    def watched(self, keep: Callable[[Tensor], None]) -> AbstractContextManager[None]:
        """Gives `keep` the states (lanes, length, width) that each pass makes logits of, after the
        final norm. Raises `SteerError` for a model that hides them."""
        ...

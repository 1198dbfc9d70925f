"""Footprint of a fit: the memory that it takes, foretold."""

from collections.abc import Iterable
from typing import Any

import psutil
import torch

from steer.models.examples import Encoded
from steer.models.layouts import Layout, Pass, completion_loss

_SAMPLE = 64  # tokens from which those of a pass are foretold
_HELD = 1.7  # of what is kept, with what the allocator holds besides: measured at 1,024 tokens
_LOGITS = 3  # copies of a pass's logits while their gradient is computed


def peak_bytes(model: Any, layout: Layout, passes: Iterable[list[Encoded]]) -> int:
    """Foretells the most memory of the device that training in these passes takes, what is in use
    now included: what the largest one keeps for its gradient, measured on a small one, copies of
    its logits, and the gradients and two moments of the weights that are fitted."""
    largest = max(passes, key=layout.size)
    sample = layout.lay_out(_begun(largest))
    kept = _HELD * _kept_bytes(model, sample) / sample.tokens * layout.size(largest)
    logits = len(layout.lay_out(largest).targets) * model.config.get_text_config().vocab_size
    fitted = sum(w.numel() * w.element_size() for w in model.parameters() if w.requires_grad)
    return _in_use(model.device) + round(kept) + 4 * _LOGITS * logits + 3 * fitted


def _begun(examples: list[Encoded]) -> list[Encoded]:
    """The beginnings of some of the texts."""
    some = examples[: max(1, _SAMPLE // len(examples[0]["input_ids"]))]
    return [
        Encoded(input_ids=each["input_ids"][: each["prompt"] + _SAMPLE], prompt=each["prompt"])
        for each in some
    ]


def _kept_bytes(model: Any, read: Pass) -> int:
    """Bytes that a pass keeps for its gradient, the model's own weights left out."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = completion_loss(model, read)
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    size = sum(size for place, size in kept.items() if place not in own)
    del loss  # until here, so that no place is used twice
    return size


def _in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)

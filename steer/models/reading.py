"""Log-probabilities of the tokens of texts, read by a causal model."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from steer.errors import SteerError
from steer.models.base import context_length

IGNORE = -100
LOGITS = 2**25
"""Most logits computed at once: what a large vocabulary needs memory for."""


@dataclass(frozen=True)
class Reader:
    """Reads texts after token ids that they all share, computed once."""

    model: Any
    start: list[int]

    @torch.inference_mode()
    def read(self, texts: Sequence[list[int]]) -> list[np.ndarray]:
        """Computes the log-probability in nats of each token of each text, after all before it:
        fp64 arrays (tokens,). Tokens beyond the model's context are left out."""
        room = max(1, context_length(self.model) - len(self.start))
        tokens = [torch.tensor(ids[:room]) for ids in texts]
        first, past = self._prefill()
        found = [np.empty(0)] * len(tokens)
        for rows in batches([len(ids) for ids in tokens], int(self.model.config.vocab_size)):
            batch = [tokens[row] for row in rows]
            for row, values in zip(rows, self._read_batch(batch, first, past), strict=True):
                found[row] = values[: len(tokens[row])].double().cpu().numpy()
        return found

    def _prefill(self) -> tuple[Tensor, DynamicCache]:
        """Computes logits (1, vocab) after the start, and its key-value cache."""
        ids = torch.tensor([self.start], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
        if not isinstance(out.past_key_values, DynamicCache):
            kind = type(self.model).__name__
            raise SteerError(f"{kind} keeps no key-value cache; choose another model as judge")
        return out.logits[:, -1], out.past_key_values

    def _read_batch(self, batch: list[Tensor], first: Tensor, past: DynamicCache) -> Tensor:
        """Computes log-probabilities (texts, longest), right of a text's end nothing of meaning."""
        device = self.model.device
        ids = pad_sequence(batch, batch_first=True).to(device)
        lengths = torch.tensor([len(each) for each in batch], device=device)
        held = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        cache = copy.deepcopy(past)
        cache.batch_repeat_interleave(len(batch))
        before = torch.ones(len(batch), len(self.start), dtype=torch.bool, device=device)
        logits = self.model(
            input_ids=ids,
            attention_mask=torch.cat([before, held], dim=1).long(),
            past_key_values=cache,
            use_cache=True,
        ).logits
        # Every logit is used but those at a text's last token, which predict what is not there.
        targets = ids.roll(-1, dims=1).masked_fill(~held.roll(-1, dims=1), IGNORE)
        targets[:, -1] = IGNORE
        flat = logits.flatten(0, 1).float()
        loss = cross_entropy(flat, targets.flatten(), ignore_index=IGNORE, reduction="none")
        opening = cross_entropy(first.expand(len(batch), -1).float(), ids[:, 0], reduction="none")
        return -torch.cat([opening[:, None], loss.view_as(ids)[:, :-1]], dim=1)


def batches(lengths: Sequence[int], vocab: int) -> Iterator[list[int]]:
    """Groups rows to read together: alike in length, and within `LOGITS`."""
    rows = sorted((row for row, length in enumerate(lengths) if length), key=lengths.__getitem__)
    while rows:
        size = max(1, LOGITS // (vocab * lengths[rows[-1]]))
        yield rows[-size:]
        del rows[-size:]

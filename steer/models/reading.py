"""Log-probabilities of the tokens of texts, read by a causal model.

The time goes into two products: the layers', and the head's, which for a vocabulary of 262,144 is
the larger one. So only states that predict a token of a text meet the head, and its logits are
summed up part by part while they are in the processor's cache; none are kept.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from steer.errors import SteerError
from steer.models.base import context_length

TOKENS = {"cpu": 2**10}
"""Most tokens read at once, padding included, by kind of device; `_MANY` on any other."""

_MANY = 2**12  # each text has a copy of what was computed of the start, which takes memory
_LOGITS = 2**25  # at once, of a model that does more to its logits than its head does
_PART = {"cpu": 2**20}  # logits at once: 4 MB in fp32
_LARGE_PART = 2**26


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
        tokens = [torch.tensor(ids[:room], dtype=torch.long) for ids in texts]
        opening, _ = self._begun
        found = [opening[ids[:1]] for ids in tokens]
        most = TOKENS.get(self.model.device.type, _MANY)
        if self._head is None:
            most = min(most, _LOGITS // len(opening))
        for rows in batches([len(ids) - 1 for ids in tokens], most):
            values = self._read_batch([tokens[row] for row in rows])
            for row, rest in zip(rows, values, strict=True):
                found[row] = torch.cat([found[row], rest])
        return [values.double().numpy() for values in found]

    @cached_property
    def _begun(self) -> tuple[Tensor, DynamicCache]:
        """Log-probabilities (vocab,) of what follows the start, and its key-value cache."""
        ids = torch.tensor([self.start], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
        if not isinstance(out.past_key_values, DynamicCache):
            kind = type(self.model).__name__
            raise SteerError(f"{kind} keeps no key-value cache; choose another model as judge")
        return out.logits[0, -1].float().log_softmax(-1).cpu(), out.past_key_values

    @cached_property
    def _head(self) -> nn.Linear | None:
        """Layer that alone makes the logits of the last states. None where there is more to them,
        such as a soft cap or a scale, which one token shows."""
        head, body = self.model.get_output_embeddings(), self.model.base_model
        if not isinstance(head, nn.Linear) or body is self.model:
            return None
        ids = torch.tensor([self.start[:1]], device=self.model.device)
        logits = self.model(input_ids=ids).logits
        expected = head(body(input_ids=ids).last_hidden_state)
        same = expected.shape == logits.shape and torch.allclose(expected, logits, 1e-3, 1e-3)
        return head if same else None

    def _read_batch(self, batch: list[Tensor]) -> tuple[Tensor, ...]:
        """Computes log-probabilities of each text's tokens from the second on."""
        device, lengths = self.model.device, [len(ids) - 1 for ids in batch]
        ids = pad_sequence([ids[:-1] for ids in batch], batch_first=True).to(device)
        held = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
        before = torch.ones(len(batch), len(self.start), dtype=torch.bool)
        cache = copy.deepcopy(self._begun[1])
        cache.batch_repeat_interleave(len(batch))
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.cat([before, held], dim=1).long().to(device),
            "past_key_values": cache,
            "use_cache": True,
        }
        targets = torch.cat([ids[1:] for ids in batch]).to(device)
        if self._head is None:
            logits = self.model(**inputs).logits[held.to(device)].float()
            values = -cross_entropy(logits, targets, reduction="none")
        else:
            states = self.model.base_model(**inputs).last_hidden_state[held.to(device)]
            values = log_probabilities(states, targets, self._head.weight, self._head.bias)
        return values.cpu().split(lengths)


def log_probabilities(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Computes fp32 log-probabilities (rows,) of the `targets` (rows,) after `states` (rows, width)
    under a head with `weight` (vocab, width) and `bias` (vocab,).

    log p(t) = -log sum_v exp(l_v - l_t), which needs no largest logit first: the sum is at least 1,
    and only beyond p = exp(-88) does it overflow.
    """
    own = (states.float() * weight[targets].float()).sum(-1)
    if bias is not None:
        own += bias[targets].float()
    own = own.to(states.dtype).float()  # rounded as all logits are
    total = torch.zeros_like(own)
    size = max(1, _PART.get(states.device.type, _LARGE_PART) // max(1, len(states)))
    for start in range(0, len(weight), size):
        part = slice(start, start + size)
        logits = linear(states, weight[part], None if bias is None else bias[part]).float()
        total += logits.sub_(own[:, None]).exp_().sum(-1)
    values = -total.log()
    for row in values.isinf().nonzero().flatten():
        logits = linear(states[row], weight, bias).float()
        values[row] = own[row] - logits.logsumexp(-1)
    return values.clamp_(max=0)


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Groups rows to read together: alike in length, and `most` tokens with padding, if more than
    one; rows without any are in none."""
    rows = sorted((row for row, held in enumerate(lengths) if held > 0), key=lengths.__getitem__)
    while rows:
        size = max(1, most // lengths[rows[-1]])
        yield rows[-size:]
        del rows[-size:]

"""Drawing one token a row from scores, with Transformers' own warpers."""

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from steer.config import Sampling


def uniforms(seed: int, count: int) -> Tensor:
    """The draws of one record, fp64 in [0, 1), shape (count,): they depend on its seed alone."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=seed)).random(count))


class Sampler:
    """Draws by inverting the cumulative distribution, so that one uniform number decides each
    token whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self.greedy = sampling.temperature == 0
        self.warpers = LogitsProcessorList()
        if sampling.temperature not in (0, 1):
            self.warpers.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            self.warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self.warpers.append(TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            self.warpers.append(MinPLogitsWarper(sampling.min_p))

    def __call__(self, scores: Tensor, draws: Tensor) -> Tensor:
        """Token ids (rows,) for fp32 `scores` (rows, vocab) and uniform `draws` (rows,)."""
        if self.greedy:
            return scores.argmax(dim=-1)
        # The warpers read no token ids; they only want the argument.
        warped = self.warpers(torch.empty(0, dtype=torch.long), scores)
        # Summed in fp64: over 50,000 tokens fp32 sums drift by more than rare tokens weigh.
        total = torch.softmax(warped, dim=-1).cumsum(dim=-1, dtype=torch.float64)
        drawn = torch.searchsorted(total, (draws * total[:, -1]).unsqueeze(-1), right=True)
        # A draw that rounds up to the total would fall behind the last token.
        last = (total < total[:, -1:]).sum(dim=-1)
        return torch.minimum(drawn.squeeze(-1), last)

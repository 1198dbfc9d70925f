"""Drawing one token a row from scores, with Transformers' own warpers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steer.config import Sampling
from steer.errors import SteerError

BLOCK = 256


def uniforms(seed: int, count: int) -> Tensor:
    """Uniform draws of one record, fp64 in [0, 1), shape (count,): they depend on its seed
    alone."""
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=seed)).random(count))


class Sampler:
    """Draws by inverting the cumulative distribution, so that one uniform number decides each
    token whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self.greedy = sampling.temperature == 0
        self.warpers = [] if self.greedy else _warpers(sampling)
        self.opening = sampling.opening

    def __call__(self, scores: Tensor, draws: Tensor, counts: Tensor) -> Tensor:
        """Draws token ids (rows,) for fp32 `scores` (rows, vocab), uniform `draws` (rows,) and
        `counts` (rows,) of the tokens so far, which say what is a row's opening.

        Raises `SteerError` when a row has no token left to draw.
        """
        chosen = self._choose(scores, draws)
        early = counts < self.opening
        if self.opening and early.any():
            chosen[early] = draw(scores[early], draws[early])
        return chosen

    def _choose(self, scores: Tensor, draws: Tensor) -> Tensor:
        require_a_token(scores.amax(dim=-1))
        if self.greedy:
            return scores.argmax(dim=-1)
        for warper in self.warpers:
            # They read no token ids; they only want the argument.
            scores = warper(torch.LongTensor(), scores)
        return _invert(torch.softmax(scores, dim=-1), draws)


def _warpers(sampling: Sampling) -> list[Any]:
    """Makes those of Transformers' warpers that the settings ask for."""
    wanted = {
        "TemperatureLogitsWarper": (sampling.temperature, sampling.temperature not in (0, 1)),
        "TopKLogitsWarper": (sampling.top_k, sampling.top_k > 0),
        "TopPLogitsWarper": (sampling.top_p, sampling.top_p < 1),
        "MinPLogitsWarper": (sampling.min_p, sampling.min_p > 0),
        "TypicalLogitsWarper": (sampling.typical_p, sampling.typical_p < 1),
    }
    if not any(is_wanted for _, is_wanted in wanted.values()):
        return []
    import transformers  # takes seconds, and the scores as they are need none of it

    return [
        getattr(transformers, name)(value)
        for name, (value, is_wanted) in wanted.items()
        if is_wanted
    ]


def draw(scores: Tensor, draws: Tensor) -> Tensor:
    """Draws token ids (rows,) from the softmax of `scores` (rows, vocab) as it is; `draws` (rows,).

    Raises `SteerError` when a row has no token left to draw.
    """
    require_a_token(scores.amax(dim=-1))
    return _invert(torch.softmax(scores, dim=-1), draws)


def require_a_token(best: Tensor) -> None:
    """Raises `SteerError` when the largest score of a row, in `best` (rows,), is not finite."""
    if not torch.isfinite(best).all():
        raise SteerError("the streams rule out every token of a row; look for infinite logits")


def _invert(probs: Tensor, draws: Tensor) -> Tensor:
    """Finds where the cumulative distribution of `probs` (rows, tokens) passes `draws`, (rows,).

    In two levels, blocks and the tokens of one block, because a cumulative sum over a whole
    vocabulary costs more than drawing from it. Sums are fp64: over 50,000 tokens fp32 sums drift
    by more than rare tokens weigh.
    """
    rows, tokens = probs.shape
    if lacks := -tokens % BLOCK:
        probs = nn.functional.pad(probs, (0, lacks))
    blocks = probs.view(rows, -1, BLOCK)
    ends = blocks.sum(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    target = draws * ends[:, -1]
    block = _first_past(ends, target)
    start = torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0], 0.0)
    inside = blocks[torch.arange(rows, device=probs.device), block]
    return block * BLOCK + _first_past(inside.cumsum(dim=-1, dtype=torch.float64), target - start)


def _first_past(ends: Tensor, target: Tensor) -> Tensor:
    """Finds the first place of each row where the cumulative `ends` exceed `target`; the last place
    with any weight when rounding puts the target at or past the end."""
    past = torch.searchsorted(ends, target.unsqueeze(-1), right=True).squeeze(-1)
    return torch.minimum(past, (ends < ends[:, -1:]).sum(dim=-1))

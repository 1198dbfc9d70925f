"""The best next tokens of every row, which the searches choose from. Any list of streams is
searched; the scores are those of `guidance.combine`."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steer.engines.hf.batch import Batch
from steer.engines.sampling import draw
from steer.engines.scoring import Part


@dataclass(frozen=True)
class Candidates:
    """The best next tokens of every row, best first: `scores` (rows, candidates) are guided
    log-probabilities (nats), of sum 1 over the vocabulary; -inf is not to be chosen. `tokens`
    (rows, candidates), `log_probs` of the streams (streams, rows, candidates)."""

    scores: Tensor
    tokens: Tensor
    log_probs: Tensor


def candidates(batch: Batch, size: int, opening: int) -> Candidates:
    """The `size` best tokens of every row. A row with fewer than `opening` tokens has only one: a
    token drawn from the scores with the row's own uniform number, of score 0."""
    parts = [_best(batch, rows, part, size, opening) for rows, part in batch.parts()]
    scores, tokens, log_probs = zip(*parts, strict=True)
    return Candidates(torch.cat(scores), torch.cat(tokens), torch.cat(log_probs, dim=1))


def _best(
    batch: Batch, rows: slice, part: Part, size: int, opening: int
) -> tuple[Tensor, Tensor, Tensor]:
    scores, log_probs, tokens = batch.score(rows, part)
    top = scores.topk(min(size, scores.shape[1]))
    # A row without any token gives NaN: -inf less -inf.
    best = (top.values - scores.logsumexp(-1, keepdim=True)).nan_to_num(-math.inf, neginf=-math.inf)
    spare = size - best.shape[1]
    best = nn.functional.pad(best, (0, spare), value=-math.inf)
    places = torch.cat([top.indices, top.indices[:, :1].expand(-1, spare)], dim=1)
    early = batch.counts[rows] < opening
    if opening and early.any():
        places[early, 0] = draw(scores[early], batch.next_draws(rows)[early])
        best[early] = best.new_tensor([0.0] + [-math.inf] * (size - 1))
    log_probs = log_probs.gather(-1, places.expand(batch.streams, -1, -1))
    return best, places if tokens is None else tokens.gather(1, places), log_probs

"""The rows that decode together: what they have drawn so far and how to score the next token."""

from collections.abc import Sequence

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf_lanes import Lane
from steer.engines.interface import Request
from steer.guidance import combine
from steer.sampling import Sampler, uniforms


class Batch:
    """Rows in admission order. Tensors have a row a record, padded to `streams` streams.

    `logits` is (streams, rows, vocab); a row with fewer streams has weight 0 in the others.
    """

    def __init__(self, streams: int, sampling: Sampling, ends: Tensor) -> None:
        device = ends.device
        self.streams = streams
        self.sampler = Sampler(sampling)
        self.ends = ends
        self.requests: list[Request] = []
        self.lanes: list[list[Lane]] = []  # of each stream of each row
        self.weights = torch.empty(streams, 0, device=device)
        self.sums = torch.empty(streams, 0, dtype=torch.float64, device=device)
        self.alpha = torch.empty(0, device=device)
        self.draws = torch.empty(0, sampling.max_new_tokens, dtype=torch.float64, device=device)
        self.tokens = torch.empty(0, sampling.max_new_tokens, dtype=torch.long, device=device)
        self.counts = torch.empty(0, dtype=torch.long, device=device)
        self.logits: Tensor | None = None

    def admit(self, requests: Sequence[Request], lanes: list[list[Lane]], logits: Tensor) -> None:
        """New rows whose first tokens `logits` (streams, rows, vocab) predicts."""
        device = self.ends.device
        count, width = len(requests), self.tokens.shape[1]
        weights = torch.zeros(self.streams, count)
        for row, request in enumerate(requests):
            for stream, part in enumerate(request.streams):
                weights[stream, row] = part.weight
        draws = torch.stack([uniforms(request.seed, width) for request in requests])
        alpha = torch.tensor([request.alpha for request in requests])
        self.requests += requests
        self.lanes += lanes
        self.weights = torch.cat([self.weights, weights.to(device)], dim=1)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(self.streams, count)], dim=1)
        self.alpha = torch.cat([self.alpha, alpha.to(device)])
        self.draws = torch.cat([self.draws, draws.to(device)])
        self.tokens = torch.cat([self.tokens, self.tokens.new_zeros(count, width)])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(count)])
        self.logits = logits if self.logits is None else torch.cat([self.logits, logits], dim=1)

    def scores(self, log_probs: Tensor) -> Tensor:
        """Guided scores (rows, vocab) from the streams' log-probabilities."""
        return combine(log_probs, self.weights, self.alpha)

    def step(self) -> Tensor:
        """Draw one token a row. Returns which rows are done, (rows,) bool."""
        assert self.logits is not None
        log_probs = torch.log_softmax(self.logits, dim=-1, dtype=torch.float32)
        at = self.counts.unsqueeze(-1)
        drawn = self.sampler(self.scores(log_probs), self.draws.gather(1, at).squeeze(-1))
        self.tokens.scatter_(1, at, drawn.unsqueeze(-1))
        chosen = drawn.expand(self.streams, -1).unsqueeze(-1)
        self.sums += log_probs.gather(-1, chosen).squeeze(-1)
        self.counts += 1
        return torch.isin(drawn, self.ends) | (self.counts == self.tokens.shape[1])

    def last(self) -> Tensor:
        """The token each row drew last, (rows,)."""
        return self.tokens.gather(1, self.counts.unsqueeze(-1) - 1).squeeze(-1)

    def keep(self, kept: Tensor) -> None:
        """Drop the rows that are not in `kept` (row numbers, in order)."""
        numbers = kept.tolist()
        self.requests = [self.requests[row] for row in numbers]
        self.lanes = [self.lanes[row] for row in numbers]
        self.weights, self.sums = self.weights[:, kept], self.sums[:, kept]
        self.alpha, self.counts = self.alpha[kept], self.counts[kept]
        self.draws, self.tokens = self.draws[kept], self.tokens[kept]
        self.logits = None  # spent

"""The rows that decode together: what they have drawn so far and how to score the next token."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf_lanes import Lane
from steer.engines.interface import Request
from steer.guidance import adapt, combine
from steer.sampling import Sampler, uniforms

# Logits scored at a time on a CPU: 16 rows of a vocabulary of 50,000 stay in its cache.
CHUNK = 1 << 20


class Batch:
    """Rows in admission order. Tensors have a row a record, padded to `streams` streams; a row
    with fewer streams has weight 0 in the others.

    `reads` says where the rows' next-token logits are, in row order: pairs of logits
    (lanes, vocab) and a table (streams, rows) of lanes.
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
        self.pooled = torch.empty(streams, 0, dtype=torch.bool, device=device)
        self.adaptive = torch.empty(0, dtype=torch.bool, device=device)
        self.alpha = torch.empty(0, device=device)
        self.draws = torch.empty(0, sampling.max_new_tokens, dtype=torch.float64, device=device)
        self.tokens = torch.empty(0, sampling.max_new_tokens, dtype=torch.long, device=device)
        self.counts = torch.empty(0, dtype=torch.long, device=device)
        self.reads: list[tuple[Tensor, Tensor]] = []

    def admit(self, requests: Sequence[Request], lanes: list[list[Lane]]) -> None:
        """New rows; their contexts predict their first tokens."""
        device = self.ends.device
        count, width = len(requests), self.tokens.shape[1]
        weights = torch.zeros(self.streams, count)
        pooled = torch.zeros(self.streams, count, dtype=torch.bool)
        for row, request in enumerate(requests):
            for stream, part in enumerate(request.streams):
                weights[stream, row] = part.weight
                pooled[stream, row] = part.pooled
        draws = torch.stack([uniforms(request.seed, width) for request in requests])
        alpha = torch.tensor([request.alpha for request in requests])
        adaptive = torch.tensor([request.adaptive for request in requests])
        self.requests += requests
        self.lanes += lanes
        self.weights = torch.cat([self.weights, weights.to(device)], dim=1)
        self.pooled = torch.cat([self.pooled, pooled.to(device)], dim=1)
        self.adaptive = torch.cat([self.adaptive, adaptive.to(device)])
        self.sums = torch.cat([self.sums, self.sums.new_zeros(self.streams, count)], dim=1)
        self.alpha = torch.cat([self.alpha, alpha.to(device)])
        self.draws = torch.cat([self.draws, draws.to(device)])
        self.tokens = torch.cat([self.tokens, self.tokens.new_zeros(count, width)])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(count)])
        first = [lane.context.logits for row in lanes for lane in row]
        self.reads.append((torch.stack(first), self.table(lanes, itertools.count())))

    def table(self, lanes: list[list[Lane]], numbers: Iterable[int]) -> Tensor:
        """`numbers`, one for each lane, as a table (streams, rows); a stream that a row lacks
        points at the row's first."""
        number = iter(numbers)
        rows = [[next(number) for _ in row] for row in lanes]
        padded = [row + row[:1] * (self.streams - len(row)) for row in rows]
        return torch.tensor(padded, device=self.ends.device).T

    def step(self) -> Tensor:
        """Draw one token a row. Returns which rows are done, (rows,) bool."""
        return self.append(torch.cat([self._draw(rows, logits) for rows, logits in self.parts()]))

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """The next-token logits (streams, rows, vocab), some rows at a time; once a step."""
        start = 0
        for logits, table in self.reads:
            size = max(1, CHUNK // logits.shape[1]) if logits.is_cpu else table.shape[1]
            for part in table.split(size, dim=1):
                rows = slice(start, start + part.shape[1])
                yield rows, logits[part]
                start = rows.stop
        self.reads = []

    def append(self, tokens: Tensor) -> Tensor:
        """Write the next one of every row, (rows,). Returns which rows are done, (rows,) bool."""
        self.tokens.scatter_(1, self.counts.unsqueeze(-1), tokens.unsqueeze(-1))
        self.counts += 1
        return torch.isin(tokens, self.ends) | (self.counts == self.tokens.shape[1])

    def next_draws(self, rows: slice) -> Tensor:
        """The uniform number that decides the next token of each of `rows`, (rows,)."""
        return self.draws[rows].gather(1, self.counts[rows].unsqueeze(-1)).squeeze(-1)

    def _draw(self, rows: slice, logits: Tensor) -> Tensor:
        """Tokens (rows,) drawn for `rows` from the streams' logits (streams, rows, vocab)."""
        scores, log_probs, tokens = self.score(rows, logits)
        place = self.sampler(scores, self.next_draws(rows), self.counts[rows]).unsqueeze(-1)
        self.sums[:, rows] += log_probs.gather(-1, place.expand(self.streams, -1, 1)).squeeze(-1)
        return (place if tokens is None else tokens.gather(1, place)).squeeze(-1)

    def score(self, rows: slice, logits: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Guided scores (rows, tokens), the streams' log-probabilities (streams, rows, tokens),
        and which tokens: (rows, tokens), or None for the whole vocabulary.

        Under a plausibility constraint most of the vocabulary is masked, and is left out.
        """
        total = torch.stack([stream.float().logsumexp(dim=-1) for stream in logits])
        weights, alpha, pooled = self.weights[:, rows], self.alpha[rows], self.pooled[:, rows]
        if self.adaptive[rows].any():
            whole = logits.float() - total.unsqueeze(-1)
            weights = adapt(whole, weights, self.adaptive[rows])
        tokens = _plausible(logits[0], alpha)
        if tokens is not None:
            logits = logits.gather(-1, tokens.expand(self.streams, -1, -1))
        log_probs = logits.float() - total.unsqueeze(-1)
        scores = combine(log_probs, weights, alpha, pooled if pooled.any() else None)
        return scores, log_probs, tokens

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
        self.pooled, self.adaptive = self.pooled[:, kept], self.adaptive[kept]
        self.draws, self.tokens = self.draws[kept], self.tokens[kept]


def _plausible(expert: Tensor, alpha: Tensor) -> Tensor | None:
    """Tokens (rows, tokens), in the vocabulary's order, that include all that the plausibility
    constraint leaves; None when some row has no constraint. `combine` decides exactly."""
    if not bool((alpha > 0).all()):
        return None
    slack = 0.01  # nats, against rounding
    floor = expert.amax(dim=-1).float() + alpha.log() - slack
    most = int((expert >= floor.unsqueeze(-1)).sum(dim=-1).max())
    return expert.topk(most, dim=-1, sorted=False).indices.sort(dim=-1).values

"""Rows that are scored together: how each combines its streams, and its next token.

Both engines decode with these rows; what they read the logits from is their own business.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from steer.config import EndBias, Sampling
from steer.engines.interface import Request
from steer.engines.masks import Masks, Written
from steer.engines.sampling import Sampler, uniforms
from steer.guidance import adapt, combine

# Logits scored at a time on a CPU: 10 rows of a vocabulary of 50,000 stay in its cache.
CHUNK = 1 << 19

SLACK = 0.01
"""Nats by which tokens may miss the plausibility constraint and are still looked at: `combine`
decides exactly, and logits are rounded."""


@dataclass(frozen=True)
class Part:
    """The next-token logits of some rows: where they are, `table` (streams, rows), among `logits`
    (lanes, vocab)."""

    logits: Tensor
    table: Tensor

    @cached_property
    def whole(self) -> Tensor:
        """A copy of them, (streams, rows, vocab)."""
        return self.logits[self.table]


class Rows:
    """Rows in admission order. Tensors have a row a record, padded to `streams` streams; a row
    with fewer streams has weight 0 in the others. With `masks`, rows whose requests have a shape
    are held to it; one that cannot go on is an error if `strict`, and else has no token left."""

    strict = True

    def __init__(
        self,
        streams: int,
        sampling: Sampling,
        device: torch.device,
        masks: Masks | None = None,
    ) -> None:
        self.streams, self.masks, self.likely = streams, masks, likely
        self.written: list[Written | None] = []
        self._allowed: Tensor | None = None  # of this step
        self.sampler = Sampler(sampling)
        self.requests: list[Request] = []
        self.weights = torch.empty(streams, 0, device=device)
        self.pooled = torch.empty(streams, 0, dtype=torch.bool, device=device)
        self.adaptive = torch.empty(0, dtype=torch.bool, device=device)
        self.alpha = torch.empty(0, device=device)
        self.draws = torch.empty(0, sampling.max_new_tokens, dtype=torch.float64, device=device)
        self.biases = torch.empty(0, sampling.max_new_tokens, device=device)
        self.counts = torch.empty(0, dtype=torch.long, device=device)

    def add(self, requests: Sequence[Request]) -> None:
        """Adds new rows, without tokens so far."""
        device, count = self.weights.device, len(requests)
        weights = torch.zeros(self.streams, count)
        pooled = torch.zeros(self.streams, count, dtype=torch.bool)
        for row, request in enumerate(requests):
            for stream, part in enumerate(request.streams):
                weights[stream, row] = part.weight
                pooled[stream, row] = part.pooled
        draws = torch.stack([uniforms(request.seed, self.draws.shape[1]) for request in requests])
        alpha = torch.tensor([request.alpha for request in requests])
        adaptive = torch.tensor([request.adaptive for request in requests])
        biases = torch.stack([_biases(request.end_bias, draws.shape[1]) for request in requests])
        self.requests += requests
        self.written += [self._start(request) for request in requests]
        self.weights = torch.cat([self.weights, weights.to(device)], dim=1)
        self.pooled = torch.cat([self.pooled, pooled.to(device)], dim=1)
        self.adaptive = torch.cat([self.adaptive, adaptive.to(device)])
        self.alpha = torch.cat([self.alpha, alpha.to(device)])
        self.draws = torch.cat([self.draws, draws.to(device)])
        self.biases = torch.cat([self.biases, biases.to(device)])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(count)])

    def keep(self, kept: Tensor) -> None:
        """Drop the rows that are not in `kept` (row numbers, in order)."""
        going = kept.tolist()
        for row in set(range(len(self.written))) - set(going):
            if self.masks and (done := self.written[row]):
                self.masks.free(done)
        self.requests = [self.requests[row] for row in going]
        self.written = [self.written[row] for row in going]
        self.weights, self.pooled = self.weights[:, kept], self.pooled[:, kept]
        self.adaptive, self.alpha = self.adaptive[kept], self.alpha[kept]
        self.draws, self.counts = self.draws[kept], self.counts[kept]
        self.biases = self.biases[kept]

    def widen(self, streams: int) -> None:
        """Makes room for rows of so many streams."""
        more = max(0, streams - self.streams)
        self.weights = nn.functional.pad(self.weights, (0, 0, 0, more))
        self.pooled = nn.functional.pad(self.pooled, (0, 0, 0, more))
        self.streams += more

    def table(self, lanes: Sequence[Sequence[object]], numbers: Iterable[int]) -> Tensor:
        """Arranges `numbers`, one for each of the rows' lanes, as a table (streams, rows); a stream
        that a row lacks points at the row's first."""
        number = iter(numbers)
        rows = [[next(number) for _ in row] for row in lanes]
        padded = [row + row[:1] * (self.streams - len(row)) for row in rows]
        return torch.tensor(padded, device=self.weights.device).T

    def add_tokens(self, tokens: Tensor) -> None:
        """Reads the next token of every row, (rows,)."""
        self.counts += 1
        self._allowed = None
        if self.masks:
            for written, token in zip(self.written, tokens.tolist(), strict=True):
                if written:
                    written.add(token)

    def follow(self, texts: Sequence[Sequence[int]]) -> None:
        """Reads what each row has written in all, ids that somebody else keeps; what it had read of
        them before is not read again."""
        self._allowed = None
        if self.masks:
            for written, text, read in zip(self.written, texts, self.counts.tolist(), strict=True):
                if written:
                    for token in text[read:]:
                        written.add(token)
        self.counts = torch.tensor([len(text) for text in texts], device=self.weights.device)

    def next_draws(self, rows: slice) -> Tensor:
        """Uniform numbers (rows,), each of which decides the next token of one of `rows`."""
        return self.draws[rows].gather(1, self.counts[rows].unsqueeze(-1)).squeeze(-1)

    def bias(self, rows: slice, part: Part, ends: Tensor) -> None:
        """Adds to the logits of the `ends` of a text (ids) what the requests of `rows` have for
        their next token, in place."""
        if any(request.end_bias for request in self.requests[rows]):
            due = self.biases[rows].gather(1, self.counts[rows].unsqueeze(-1)).squeeze(-1)
            lanes = due.new_zeros(len(part.logits), 1)
            lanes[part.table, 0] = due.expand_as(part.table)
            part.logits[:, ends] += lanes.to(part.logits.dtype)

    def narrows(self, rows: slice) -> bool:
        """Whether only plausible tokens of `rows` are scored, which are few."""
        return bool((self.alpha[rows] > 0).all()) and not bool(self.adaptive[rows].any())

    def pick(self, rows: slice, part: Part) -> tuple[Tensor, Tensor]:
        """Draws tokens (rows,) for `rows` from their part of the logits, and computes each stream's
        log-probability of them, (streams, rows).

        Raises `SteerError` when a row has no token left to draw.
        """
        scores, log_probs, tokens = self.score(rows, part)
        place = self.sampler(scores, self.next_draws(rows), self.counts[rows]).unsqueeze(-1)
        drawn = log_probs.gather(-1, place.expand(self.streams, -1, 1)).squeeze(-1)
        return (place if tokens is None else tokens.gather(1, place)).squeeze(-1), drawn

    def score(self, rows: slice, part: Part) -> tuple[Tensor, Tensor, Tensor | None]:
        """Computes guided scores (rows, tokens), the streams' log-probabilities (streams, rows,
        tokens), and which tokens: (rows, tokens), or None for the whole vocabulary.

        Under a plausibility constraint most of the vocabulary is masked, and is left out. What a
        shape does not allow is out before anything else: plausible is then what is likely enough
        beside the likeliest token that is allowed. The log-probabilities know no shape.
        """
        weights, alpha, pooled = self.weights[:, rows], self.alpha[rows], self.pooled[:, rows]
        allowed, adaptive = self.allowed_of(rows), self.adaptive[rows]
        if self.narrows(rows):
            tokens, log_probs = self.likely(part, SLACK - alpha.log(), allowed)
        else:
            tokens, log_probs = None, part.whole.log_softmax(dim=-1, dtype=torch.float32)
            if adaptive.any():
                held = log_probs if allowed is None else _held(log_probs, allowed).log_softmax(-1)
                weights = adapt(held, weights, adaptive)
        if allowed is not None and tokens is not None:
            allowed = allowed.gather(1, tokens)
        held = _held(log_probs, allowed)
        scores = combine(held, weights, alpha, pooled if pooled.any() else None)
        return scores, log_probs, tokens

    def _start(self, request: Request) -> Written | None:
        return self.masks.start(request.shape) if self.masks and request.shape else None

    def allowed_of(self, rows: slice) -> Tensor | None:
        """Tells which tokens the shapes of `rows` allow, bool (rows, vocab); None: all."""
        if not self.masks or not any(self.written[rows]):
            return None
        if self._allowed is None:  # of all rows at once, so that threads share them
            found = self.masks.allowed(self.written, strict=self.strict)
            self._allowed = found.to(self.weights.device)
        return self._allowed[rows]


def _biases(steps: EndBias, tokens: int) -> Tensor:
    """The bias for each of so many tokens, (tokens,)."""
    biases = torch.zeros(tokens)
    for first, bias in steps:
        biases[first:] = bias
    return biases


def _held(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Rules out the tokens (..., rows, tokens) that are not `allowed`, bool (rows, tokens)."""
    return scores if allowed is None else scores.masked_fill(~allowed, -math.inf)


def parts(part: Part, size: int | None = None) -> Iterator[tuple[slice, Part]]:
    """Yields `size` rows at a time, with which rows these are: on a CPU some whose logits stay in
    its cache, if not told."""
    rows, (_, vocab) = part.table.shape[1], part.logits.shape
    size = size or (max(1, CHUNK // vocab) if part.logits.is_cpu else rows)
    for start in range(0, rows, size):
        some = slice(start, min(start + size, rows))
        yield some, Part(part.logits, part.table[:, some])


def likely(part: Part, below: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Selects the tokens (rows, tokens) that the first stream finds likely, as `_plausible` does
    among those `allowed`, and computes their log-probabilities (streams, rows, tokens)."""
    tokens = _plausible(_held(part.whole[0], allowed), below)
    # A stream at a time: all of them would not stay in the processor's cache.
    wholes = (stream.log_softmax(dim=-1, dtype=torch.float32) for stream in part.whole)
    return tokens, torch.stack([stream.gather(-1, tokens) for stream in wholes])


def _plausible(expert: Tensor, below: Tensor) -> Tensor:
    """Selects tokens (rows, tokens), in the vocabulary's order, that are at most `below` (rows,)
    under the best of `expert` (rows, vocab). A row with fewer than others is filled up with one
    that is not."""
    floor = expert.amax(dim=-1).float() - below
    left = expert >= floor.unsqueeze(-1)  # NaN is above nothing
    most = max(1, int(left.sum(dim=-1).max()))
    # The n-th token left is where their count reaches n. In a row with fewer the rest is filled
    # with one that is not left: there is one among the first `most`.
    reached, wanted = left.cumsum(dim=-1, dtype=torch.int32), torch.arange(1, most + 1)
    wanted = wanted.to(reached).expand(len(left), -1).contiguous()
    tokens = torch.searchsorted(reached, wanted)
    return torch.where(
        tokens < left.shape[1], tokens, left[:, :most].int().argmin(dim=-1, keepdim=True)
    )

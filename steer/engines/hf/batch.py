"""The rows of the hf engine that decode together: what they have drawn so far and where the logits
of their next tokens are."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf.compiled import Kernels
from steer.engines.hf.lanes import Lane
from steer.engines.interface import Request
from steer.engines.masks import Masks
from steer.engines.scoring import Part, Rows, parts


class Batch(Rows):
    """Rows, the lanes of their streams, and their tokens.

    `reads` says where the rows' next-token logits are, in row order: pairs of logits
    (lanes, vocab) and a table (streams, rows) of lanes. With `kernels` they are scored by them.
    """

    def __init__(
        self,
        streams: int,
        sampling: Sampling,
        ends: Tensor,
        kernels: Kernels | None,
        masks: Masks | None = None,
    ) -> None:
        super().__init__(streams, sampling, ends.device, masks)
        self.compiled = kernels is not None
        if kernels:
            self.likely = kernels.likely
        device = ends.device
        self.ends = ends
        self.lanes: list[list[Lane]] = []  # a lane for each stream of each row
        self.sums = torch.empty(streams, 0, dtype=torch.float64, device=device)
        self.tokens = torch.empty(0, sampling.max_new_tokens, dtype=torch.long, device=device)
        self.reads: list[tuple[Tensor, Tensor]] = []

    def admit(self, requests: Sequence[Request], lanes: list[list[Lane]]) -> None:
        """Add new rows; their contexts predict their first tokens."""
        self.add(requests)
        self.lanes += lanes
        count = len(requests)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(self.streams, count)], dim=1)
        self.tokens = torch.cat([self.tokens, self.tokens.new_zeros(count, self.tokens.shape[1])])
        first = [lane.context.logits for row in lanes for lane in row]
        self.reads.append((torch.stack(first), self.table(lanes, itertools.count())))

    def step(self) -> Tensor:
        """Draw one token a row. Returns which rows are done, (rows,) bool."""
        return self.append(torch.cat([self._draw(rows, part) for rows, part in self.parts()]))

    def parts(self) -> Iterator[tuple[slice, Part]]:
        """The next-token logits, some rows at a time; once a step."""
        start = 0
        for logits, table in self.reads:
            whole, count = Part(logits, table), table.shape[1]
            rows = slice(start, start + count)
            self.bias(rows, whole, self.ends)
            at_once = self.narrows(rows) and self.allowed_of(rows) is None
            size = count if self.compiled and at_once else None
            for some, part in parts(whole, size):
                yield slice(start + some.start, start + some.stop), part
            start += count
        self.reads = []

    def append(self, tokens: Tensor) -> Tensor:
        """Write the next token of every row, (rows,). Returns which rows are done, (rows,) bool."""
        self.tokens.scatter_(1, self.counts.unsqueeze(-1), tokens.unsqueeze(-1))
        self.add_tokens(tokens)
        return torch.isin(tokens, self.ends) | (self.counts == self.tokens.shape[1])

    def go_on_from(self, parents: Tensor) -> None:
        """Makes each row a copy of the one that is its parent, (rows,) row numbers."""
        self.tokens, self.sums = self.tokens[parents], self.sums[:, parents]
        if self.masks:
            old, numbers = self.written, parents.tolist()
            self.written = [
                old[parent].copy() if row != parent and old[parent] else old[parent]
                for row, parent in enumerate(numbers)
            ]

    def _draw(self, rows: slice, part: Part) -> Tensor:
        """Tokens (rows,) drawn for `rows` from their part of the logits."""
        tokens, log_probs = self.pick(rows, part)
        self.sums[:, rows] += log_probs
        return tokens

    def last(self) -> Tensor:
        """The token each row drew last, (rows,)."""
        return self.tokens.gather(1, self.counts.unsqueeze(-1) - 1).squeeze(-1)

    def keep(self, kept: Tensor) -> None:
        """Drop the rows that are not in `kept` (row numbers, in order)."""
        super().keep(kept)
        self.lanes = [self.lanes[row] for row in kept.tolist()]
        self.sums, self.tokens = self.sums[:, kept], self.tokens[kept]

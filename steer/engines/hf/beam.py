"""Beam search: the tokens of a record are chosen, not drawn, from several hypotheses of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf.candidates import Candidates, candidates
from steer.engines.hf.generation import Generation
from steer.engines.hf.model import LaneModel
from steer.engines.interface import Request
from steer.engines.sampling import require_a_token


@dataclass(frozen=True)
class Hypothesis:
    """A finished text of a beam search; `score` is the mean guided log-probability (nats a token)
    of its tokens after the opening, `sums` (streams,) as in `Batch`."""

    score: float
    tokens: list[int]
    sums: Tensor


class BeamSearch(Generation):
    """Beam search: a record's rows are its hypotheses, and the best finished one is its text.

    The best `beams` unfinished continuations go on. Finished ones compete by the mean of their
    guided log-probabilities, by Transformers' length_penalty=1.0 and early_stopping=False: the
    search ends when the best unfinished one, as it stands, is no better than the worst of `beams`
    finished ones. The opening counts as part of the context.
    """

    def __init__(
        self,
        model: LaneModel,
        ends: Tensor,
        rows: int,
        requests: Sequence[Request],
        sampling: Sampling,
    ) -> None:
        super().__init__(model, ends, rows, requests, sampling)
        # Sums of guided log-probabilities; -inf is a hypothesis that stands for none.
        self.totals = torch.empty(0, self.each, device=ends.device)
        self.finished: list[list[Hypothesis]] = []
        # Candidates of a hypothesis: as many as may end, and as many as may go on.
        self.size = self.each + len(ends)

    def _add(self, requests: Sequence[Request]) -> None:
        super()._add(requests)
        start = self.totals.new_full((len(requests), self.each), -math.inf)
        start[:, 0] = 0
        self.totals = torch.cat([self.totals, start])
        self.finished += [[] for _ in requests]

    def _choose(self) -> None:
        offered = candidates(self.batch, self.size, self.sampling.opening)
        totals = (self.totals.view(-1, 1) + offered.scores).view(len(self.totals), -1)
        best, places = totals.sort(dim=-1, descending=True)
        require_a_token(best[:, 0])
        # Places in all of `offered`, not in the record's part of it.
        places += torch.arange(len(totals), device=places.device)[:, None] * totals.shape[1]
        ended = self._ends(offered.tokens.flatten()[places])
        kept = [
            self._select(record, offered, list(zip(*rows, strict=True)))
            for record, rows in enumerate(
                zip(best.tolist(), places.tolist(), ended.tolist(), strict=True)
            )
        ]
        self._advance(offered, kept)
        done = [self._is_done(record) for record in range(len(kept))]
        if any(done):
            self._finish(torch.tensor(done, device=places.device).repeat_interleave(self.each))

    def _ends(self, tokens: Tensor) -> Tensor:
        """Whether each of `tokens` (records, candidates) is a hypothesis' last one."""
        last = self.batch.counts[:: self.each] + 1 == self.sampling.max_new_tokens
        return torch.isin(tokens, self.ends) | last.unsqueeze(-1)

    def _select(
        self, record: int, offered: Candidates, ranked: list[tuple[float, int, bool]]
    ) -> list[tuple[float, int]]:
        """Picks the candidates of a record that go on, as many as there are beams; notes those that
        end. `ranked` is (total, place, whether it ends), best first."""
        length = self._length(record) + 1
        ended = [
            self._hypothesis(offered, total / length, place)
            for total, place, ends in ranked[: self.each]
            if ends and total > -math.inf
        ]
        finished = sorted(self.finished[record] + ended, key=lambda one: -one.score)
        self.finished[record] = finished[: self.each]
        going = [(total, place) for total, place, ends in ranked if not ends and total > -math.inf]
        spare = (-math.inf, going[0][1] if going else ranked[0][1])
        return [*going, *[spare] * self.each][: self.each]

    def _length(self, record: int) -> int:
        """Counts the tokens so far of a record's hypotheses, without the opening."""
        # The last token of the opening counts as one if it ends the text.
        return max(0, int(self.batch.counts[record * self.each]) - self.sampling.opening)

    def _hypothesis(self, offered: Candidates, score: float, place: int) -> Hypothesis:
        parent, column = divmod(place, self.size)
        tokens = self.batch.tokens[parent, : self.batch.counts[parent]].tolist()
        return Hypothesis(
            score,
            [*tokens, int(offered.tokens[parent, column])],
            self.batch.sums[:, parent] + offered.log_probs[:, parent, column],
        )

    def _advance(self, offered: Candidates, kept: list[list[tuple[float, int]]]) -> None:
        """Make the rows the hypotheses `kept`, a list of (total, place) for each record."""
        batch, device = self.batch, self.totals.device
        self.totals = torch.tensor([[total for total, _ in row] for row in kept], device=device)
        places = torch.tensor([place for row in kept for _, place in row], device=device)
        parents = places // self.size
        batch.go_on_from(parents)
        batch.sums += offered.log_probs.flatten(1)[:, places]
        batch.append(offered.tokens.flatten()[places])
        self.bank.copy(
            [
                pair
                for row, parent in enumerate(parents.tolist())
                if row != parent
                for pair in zip(batch.lanes[parent], batch.lanes[row], strict=True)
            ]
        )

    def _is_done(self, record: int) -> bool:
        best, finished = float(self.totals[record, 0]), self.finished[record]
        if len(finished) < self.each:
            return best == -math.inf
        return best / max(1, self._length(record)) <= finished[-1].score

    def _finish(self, finished: Tensor) -> None:
        for row in finished.nonzero().flatten().tolist()[:: self.each]:
            best = self.finished[row // self.each][0]
            self._complete(self.batch.requests[row], best.tokens, best.sums)
        going = (~finished[:: self.each]).nonzero().flatten()
        self.totals = self.totals[going]
        self.finished = [self.finished[record] for record in going.tolist()]
        self._drop(finished)

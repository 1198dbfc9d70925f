"""Searches of the hf engine: the tokens of a record are chosen, not drawn, after looking further
than the next one. Any list of streams is searched; the scores are those of `guidance.combine`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from steer.config import Sampling
from steer.engines.hf.batch import Batch
from steer.engines.hf.generation import Generation, Reader
from steer.engines.hf.lanes import Context, Lane
from steer.engines.interface import Completion, Request, Step
from steer.engines.sampling import draw, require_a_token
from steer.errors import SteerError


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
    parts = [_best(batch, rows, logits, size, opening) for rows, logits in batch.parts()]
    scores, tokens, log_probs = zip(*parts, strict=True)
    return Candidates(torch.cat(scores), torch.cat(tokens), torch.cat(log_probs, dim=1))


def _best(
    batch: Batch, rows: slice, logits: Tensor, size: int, opening: int
) -> tuple[Tensor, Tensor, Tensor]:
    scores, log_probs, tokens = batch.score(rows, logits)
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
    guided log-probabilities, and the search ends when the best unfinished one, as it stands, is no
    better than the worst of `beams` finished ones: Transformers' length_penalty=1.0 and
    early_stopping=False. The opening counts as part of the context.
    """

    def __init__(self, engine: Reader, requests: Sequence[Request], sampling: Sampling) -> None:
        super().__init__(engine, requests, sampling)
        # Sums of guided log-probabilities; -inf is a hypothesis that stands for none.
        self.totals = torch.empty(0, self.each, device=engine.ends.device)
        self.finished: list[list[Hypothesis]] = []
        # Candidates of a hypothesis: as many as may end, and as many as may go on.
        self.size = self.each + len(engine.ends)

    def _add(self, requests: Sequence[Request]) -> None:
        super()._add(requests)
        start = self.totals.new_full((len(requests), self.each), -math.inf)
        start[:, 0] = 0
        self.totals = torch.cat([self.totals, start])
        self.finished += [[] for _ in requests]

    def _choose(self) -> None:
        found = candidates(self.batch, self.size, self.sampling.opening)
        totals = (self.totals.view(-1, 1) + found.scores).view(len(self.totals), -1)
        best, places = totals.sort(dim=-1, descending=True)
        require_a_token(best[:, 0])
        # Places in all of `found`, not in the record's part of it.
        places += torch.arange(len(totals), device=places.device)[:, None] * totals.shape[1]
        ended = self._ends(found.tokens.flatten()[places])
        kept = [
            self._select(record, found, list(zip(*rows, strict=True)))
            for record, rows in enumerate(
                zip(best.tolist(), places.tolist(), ended.tolist(), strict=True)
            )
        ]
        self._advance(found, kept)
        done = [self._is_done(record) for record in range(len(kept))]
        if any(done):
            self._finish(torch.tensor(done, device=places.device).repeat_interleave(self.each))

    def _ends(self, tokens: Tensor) -> Tensor:
        """Whether each of `tokens` (records, candidates) is a hypothesis' last one."""
        last = self.batch.counts[:: self.each] + 1 == self.sampling.max_new_tokens
        return torch.isin(tokens, self.engine.ends) | last.unsqueeze(-1)

    def _select(
        self, record: int, found: Candidates, ranked: list[tuple[float, int, bool]]
    ) -> list[tuple[float, int]]:
        """From a record's candidates, (total, place, whether it ends) best first: those that go on,
        as many as there are beams. Those that end are noted."""
        length = self._length(record) + 1
        ended = [
            self._hypothesis(found, total / length, place)
            for total, place, ends in ranked[: self.each]
            if ends and total > -math.inf
        ]
        finished = sorted(self.finished[record] + ended, key=lambda one: -one.score)
        self.finished[record] = finished[: self.each]
        going = [(total, place) for total, place, ends in ranked if not ends and total > -math.inf]
        spare = (-math.inf, going[0][1] if going else ranked[0][1])
        return [*going, *[spare] * self.each][: self.each]

    def _length(self, record: int) -> int:
        """Tokens so far of a record's hypotheses, without the opening."""
        # The last token of the opening counts as one if it ends the text.
        return max(0, int(self.batch.counts[record * self.each]) - self.sampling.opening)

    def _hypothesis(self, found: Candidates, score: float, place: int) -> Hypothesis:
        parent, column = divmod(place, self.size)
        tokens = self.batch.tokens[parent, : self.batch.counts[parent]].tolist()
        return Hypothesis(
            score,
            [*tokens, int(found.tokens[parent, column])],
            self.batch.sums[:, parent] + found.log_probs[:, parent, column],
        )

    def _advance(self, found: Candidates, kept: list[list[tuple[float, int]]]) -> None:
        """Make the rows the hypotheses `kept`, a list of (total, place) for each record."""
        batch, device = self.batch, self.totals.device
        self.totals = torch.tensor([[total for total, _ in row] for row in kept], device=device)
        places = torch.tensor([place for row in kept for _, place in row], device=device)
        parents = places // self.size
        batch.tokens, batch.sums = batch.tokens[parents], batch.sums[:, parents]
        batch.sums += found.log_probs.flatten(1)[:, places]
        batch.append(found.tokens.flatten()[places])
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


@dataclass
class Trial:
    """What contrastive search keeps for a row: the lanes that read its candidates, and what the
    expert made of the tokens so far: hidden states of length 1, of its `context` (length, hidden)
    and of its `own` tokens."""

    lanes: list[Lane]
    context: Tensor
    own: Tensor

    def likeness(self, hidden: Tensor) -> Tensor:
        """The largest cosine between each of `hidden` (candidates, hidden), of length 1, and the
        tokens so far, (candidates,)."""
        nearest = (hidden @ self.context.T).amax(-1)
        if len(self.own):
            nearest = torch.maximum(nearest, (hidden @ self.own.T).amax(-1))
        return nearest


class ContrastiveSearch(Generation):
    """Contrastive search (Su et al. 2022, arXiv 2202.06417, equation 5): of the `candidates` most
    likely tokens v, the one with the largest

        (1 - penalty) * p(v | x) - penalty * max over tokens x_j before it of cos(h_v, h_x_j)

    where p is the softmax of the guided scores and h the expert's last hidden state, after the
    final norm. The expert reads every candidate; the other streams read the chosen one.
    """

    def __init__(self, engine: Reader, requests: Sequence[Request], sampling: Sampling) -> None:
        if engine.model.base_model is engine.model:
            kind = type(engine.model).__name__
            raise SteerError(f"{kind} hides its last layer's output; use another method")
        super().__init__(engine, requests, sampling)
        self.tries = self._bank(sampling.candidates)  # the expert's lanes; `bank` has the others'
        self.trials: list[Trial] = []
        self.experts = {(r.streams[0].adapter, r.streams[0].context) for r in requests}
        self.prompts: dict[tuple[bool, str], Tensor] = {}  # hidden states of the experts' contexts
        self.hidden = torch.empty(0)  # of the last forward pass
        self.logits = torch.empty(0)  # of the expert after the chosen tokens

    def run(self, on_step: Callable[[Step], None] | None) -> list[Completion]:
        """Completions in the order of the requests."""
        hook = self.engine.model.base_model.register_forward_hook(self._keep_hidden)
        try:
            return super().run(on_step)
        finally:
            hook.remove()

    def _rows(self, most: int) -> int:
        return super()._rows(max(1, most // self.sampling.candidates))

    def _keep_hidden(self, module: nn.Module, given: Any, output: Any) -> None:
        self.hidden = nn.functional.normalize(output.last_hidden_state.float(), dim=-1)

    def _prefill(self, adapter: bool, text: str) -> Context:
        context = super()._prefill(adapter, text)
        if (adapter, text) in self.experts:
            self.prompts[adapter, text] = self.hidden[0]
        return context

    def _add(self, requests: Sequence[Request]) -> None:
        lanes = []
        for request in requests:
            contexts, expert = self._contexts(request), request.streams[0]
            tries = [
                self.tries.add(expert.adapter, contexts[0]) for _ in range(self.sampling.candidates)
            ]
            others = zip(request.streams[1:], contexts[1:], strict=True)
            lanes.append([tries[0], *(self.bank.add(s.adapter, c) for s, c in others)])
            prompt = self.prompts[expert.adapter, expert.context]
            self.trials.append(Trial(tries, prompt, prompt[:0]))
        self.batch.admit(requests, lanes)

    def _choose(self) -> None:
        batch, penalty = self.batch, self.sampling.penalty
        found = candidates(batch, self.sampling.candidates, self.sampling.opening)
        require_a_token(found.scores[:, 0])
        places, logits = self._try(found.tokens)
        hidden = self.hidden[:, -1][places]
        like = torch.stack(
            [trial.likeness(h) for trial, h in zip(self.trials, hidden, strict=True)]
        )
        values = (1 - penalty) * found.scores.exp() - penalty * like
        values.masked_fill_(found.scores == -math.inf, -math.inf)
        rows, chosen = torch.arange(len(values), device=values.device), values.argmax(dim=-1)
        self._settle(chosen.tolist(), hidden)
        self.logits = logits[places[rows, chosen]]
        batch.sums += found.log_probs[:, rows, chosen]
        finished = batch.append(found.tokens[rows, chosen])
        if finished.any():
            self._finish(finished)

    def _try(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The expert reads `tokens` (rows, candidates): where each is in the forward pass, and the
        pass's logits (lanes, vocab)."""
        lanes = [lane.index for trial in self.trials for lane in trial.lanes]
        places = torch.tensor(lanes, device=tokens.device).view_as(tokens)
        return places, self._read(self.tries, places, tokens)

    def _settle(self, chosen: list[int], hidden: Tensor) -> None:
        """All lanes of a row go on from its chosen candidate: only their last token differs."""
        moves = []
        for row, number in enumerate(chosen):
            trial = self.trials[row]
            trial.own = torch.cat([trial.own, hidden[row, number : number + 1]])
            source = trial.lanes[number]
            moves += [(source, lane) for lane in trial.lanes if lane is not source]
        self.tries.copy(moves, newest=True)

    def _drop(self, finished: Tensor) -> None:
        batch = self.batch
        for row in finished.nonzero().flatten().tolist():
            for lane in self.trials[row].lanes:
                self.tries.remove(lane)
            for lane in batch.lanes[row][1:]:
                self.bank.remove(lane)
        going = (~finished).nonzero().flatten()
        self.trials = [self.trials[row] for row in going.tolist()]
        self.logits = self.logits[going]
        batch.keep(going)

    def _forward(self) -> None:
        batch, logits = self.batch, self.logits
        rows = [(row, lane) for row, lanes in enumerate(batch.lanes) for lane in lanes[1:]]
        places = [lane.index for _, lane in rows]
        if places:
            where = torch.tensor(places, device=logits.device)
            tokens = batch.last()[[row for row, _ in rows]]
            logits = torch.cat([logits, self._read(self.bank, where, tokens)])
        experts, others = count(), iter(places)
        numbers = (
            next(experts) if number == 0 else len(batch.requests) + next(others)
            for lanes in batch.lanes
            for number in range(len(lanes))
        )
        batch.reads = [(logits, batch.table(batch.lanes, numbers))]

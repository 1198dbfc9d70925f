"""Contrastive search: of the likely next tokens, one that is unlike those before it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from steer.config import Sampling
from steer.engines.hf.candidates import candidates
from steer.engines.hf.generation import Generation
from steer.engines.hf.lanes import Context, Lane
from steer.engines.hf.model import LaneModel
from steer.engines.interface import Completion, Request, Step
from steer.engines.sampling import require_a_token
from steer.guidance import Shown


@dataclass
class Tried:
    """State of a row in contrastive search: the lanes that read its candidates, and what the expert
    made of the tokens so far: hidden states of length 1, of its `context` (length, hidden) and of
    its `own` tokens."""

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

    def __init__(
        self,
        model: LaneModel,
        ends: Tensor,
        rows: int,
        requests: Sequence[Request],
        sampling: Sampling,
    ) -> None:
        super().__init__(model, ends, rows, requests, sampling)
        # The expert's lanes; `bank` has the others'.
        self.tries = model.bank(sampling.candidates * self.rows)
        self.tried: list[Tried] = []
        self.experts = {(r.streams[0].adapter, r.streams[0].context) for r in requests}
        # Hidden states of the experts' contexts.
        self.prompts: dict[tuple[int, str | Shown], Tensor] = {}
        self.hidden = torch.empty(0)  # states of the last forward pass
        self.logits = torch.empty(0)  # expert's, after the chosen tokens

    def run(self, on_step: Callable[[Step], None] | None) -> list[Completion]:
        """Generates completions, in the order of the requests."""
        with self.model.body.watched(self._keep_hidden):
            return super().run(on_step)

    def _rows(self, most: int) -> int:
        return super()._rows(max(1, most // self.sampling.candidates))

    def _keep_hidden(self, states: Tensor) -> None:
        self.hidden = nn.functional.normalize(states.float(), dim=-1)

    def _prefill(self, adapter: int, read: str | Shown) -> Context:
        context = super()._prefill(adapter, read)
        if (adapter, read) in self.experts:
            self.prompts[adapter, read] = self.hidden[0]
        return context

    def _add(self, requests: Sequence[Request]) -> None:
        lanes = []
        for request in requests:
            contexts, expert = self._contexts(request), request.streams[0]
            tries = [
                self.tries.add(expert.adapter, contexts[0]) for _ in range(self.sampling.candidates)
            ]
            others = zip(request.streams[1:], contexts[1:], strict=True)
            lanes.append(
                [tries[0], *(self.bank.add(self._adapter(request, s), c) for s, c in others)]
            )
            prompt = self.prompts[expert.adapter, expert.context]
            self.tried.append(Tried(tries, prompt, prompt[:0]))
        self.batch.admit(requests, lanes)

    def _choose(self) -> None:
        batch, penalty = self.batch, self.sampling.penalty
        offered = candidates(batch, self.sampling.candidates, self.sampling.opening)
        require_a_token(offered.scores[:, 0])
        places, logits = self._try(offered.tokens)
        hidden = self.hidden[:, -1][places]
        pairs = zip(self.tried, hidden, strict=True)
        like = torch.stack([tried.likeness(states) for tried, states in pairs])
        values = (1 - penalty) * offered.scores.exp() - penalty * like
        values.masked_fill_(offered.scores == -math.inf, -math.inf)
        rows, chosen = torch.arange(len(values), device=values.device), values.argmax(dim=-1)
        self._settle(chosen.tolist(), hidden)
        self.logits = logits[places[rows, chosen]]
        batch.sums += offered.log_probs[:, rows, chosen]
        finished = batch.append(offered.tokens[rows, chosen])
        if finished.any():
            self._finish(finished)

    def _try(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The expert reads `tokens` (rows, candidates): where each is in the forward pass, and the
        pass's logits (lanes, vocab)."""
        lanes = [lane.index for tried in self.tried for lane in tried.lanes]
        places = torch.tensor(lanes, device=tokens.device).view_as(tokens)
        return places, self._read(self.tries, places, tokens)

    def _settle(self, chosen: list[int], hidden: Tensor) -> None:
        """Lets all lanes of a row go on from its chosen candidate: only their last token
        differs."""
        moves = []
        for row, (tried, number) in enumerate(zip(self.tried, chosen, strict=True)):
            tried.own = torch.cat([tried.own, hidden[row, number : number + 1]])
            source = tried.lanes[number]
            moves += [(source, lane) for lane in tried.lanes if lane is not source]
        self.tries.copy(moves, newest=True)

    def _drop(self, finished: Tensor) -> None:
        batch = self.batch
        for row in finished.nonzero().flatten().tolist():
            for lane in self.tried[row].lanes:
                self.tries.remove(lane)
            for lane in batch.lanes[row][1:]:
                self.bank.remove(lane)
        going = (~finished).nonzero().flatten()
        self.tried = [self.tried[row] for row in going.tolist()]
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

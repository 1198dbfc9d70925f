"""One call of the hf engine: records are admitted, decoded a token a step, and replaced when they
finish. How the next token is chosen is the batch's business, or a search's."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf.batch import Batch
from steer.engines.hf.lanes import Bank, Context
from steer.engines.hf.model import LaneModel
from steer.engines.interface import Completion, Request, Step, most_streams
from steer.engines.tokens import require_room
from steer.guidance import Shown, Stream


class Generation:
    """One call of `HFEngine.generate`, each token drawn from the scores.

    `rows` is how many there is memory for, and `ends` the tokens that end a text. A record has
    `each` rows of the batch.
    """

    def __init__(
        self,
        model: LaneModel,
        ends: Tensor,
        rows: int,
        requests: Sequence[Request],
        sampling: Sampling,
    ) -> None:
        self.model, self.ends, self.sampling = model, ends, sampling
        self.each = sampling.beams
        self.order = [request.id for request in requests]
        self.waiting = deque(requests)
        contexts = {stream.context for request in requests for stream in request.streams}
        self.ids = {context: model.encode(context) for context in contexts}
        longest = max(map(len, self.ids.values()), default=0)
        require_room(longest, sampling.max_new_tokens, model.body.context)
        # How many waiting streams still need each context; at zero it is forgotten.
        self.uses = Counter((self._adapter(r, s), s.context) for r in requests for s in r.streams)
        self.contexts: dict[tuple[int, str | Shown], Context] = {}
        streams = most_streams(requests)
        self.rows = self._rows(rows)
        self.bank = model.bank(streams * self.rows)
        shaped = any(request.shape for request in requests)
        masks, kernels = model.masks(ends) if shaped else None, model.body.kernels
        self.batch = Batch(streams, sampling, ends, kernels, masks)
        self.done: dict[int, Completion] = {}
        self.drawn = 0

    def run(self, on_step: Callable[[Step], None] | None) -> list[Completion]:
        """Generates completions, in the order of the requests."""
        while self.waiting or self.batch.requests:
            self._admit()
            self.drawn += len(self.batch.requests) // self.each
            self._choose()
            if on_step:
                on_step(Step(tokens=self.drawn, finished=len(self.done)))
            if self.batch.requests:
                self._forward()
        return [self.done[number] for number in self.order]

    def _admit(self) -> None:
        room = (self.rows - len(self.batch.requests)) // self.each
        requests = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
        if requests:
            self._add(requests)

    def _add(self, requests: Sequence[Request]) -> None:
        lanes = []
        for request in requests:
            pairs = list(zip(request.streams, self._contexts(request), strict=True))
            lanes += [
                [self.bank.add(self._adapter(request, s), c) for s, c in pairs]
                for _ in range(self.each)
            ]
        self.batch.admit([request for request in requests for _ in range(self.each)], lanes)

    def _contexts(self, request: Request) -> list[Context]:
        """Finds each stream's context, prefilled when its first record needs it."""
        return [self._context(self._adapter(request, s), s.context) for s in request.streams]

    def _adapter(self, request: Request, stream: Stream) -> int:
        """Number of the adapter that a stream reads with, 0 for none."""
        return int(stream.adapter)

    def _context(self, adapter: int, read: str | Shown) -> Context:
        key = (adapter, read)
        if key not in self.contexts:
            self.contexts[key] = self._prefill(adapter, read)
        self.uses[key] -= 1
        return self.contexts[key] if self.uses[key] else self.contexts.pop(key)

    def _prefill(self, adapter: int, read: str | Shown) -> Context:
        ids = self.ids[read]
        context = Context(length=len(ids))
        context.adapters = torch.tensor([adapter], device=self.model.device)
        tokens = torch.tensor([ids], device=self.model.device)
        positions = torch.arange(len(ids), device=tokens.device).unsqueeze(0)
        context.logits = self.model.forward(tokens, positions, context, int(adapter > 0))[0]
        return context

    def _choose(self) -> None:
        """Chooses every row's next token; rows that are done leave."""
        finished = self.batch.step()
        if finished.any():
            self._finish(finished)

    def _finish(self, finished: Tensor) -> None:
        batch = self.batch
        for row in finished.nonzero().flatten().tolist():
            tokens = batch.tokens[row, : batch.counts[row]].tolist()
            self._complete(batch.requests[row], tokens, batch.sums[:, row])
        self._drop(finished)

    def _complete(self, request: Request, tokens: list[int], sums: Tensor) -> None:
        """Makes the completion of `request`; `sums` (streams,) are its tokens' log-probabilities,
        summed."""
        means = (sums / len(tokens)).tolist()
        self.done[request.id] = Completion(
            id=request.id,
            text=str(self.model.tokenizer.decode(tokens, skip_special_tokens=True)),
            tokens=len(tokens),
            finish_reason="stop" if tokens[-1] in self.ends else "length",
            log_probs={s.name: m for s, m in zip(request.streams, means, strict=False)},
        )

    def _drop(self, finished: Tensor) -> None:
        for row in finished.nonzero().flatten().tolist():
            for lane in self.batch.lanes[row]:
                self.bank.remove(lane)
        self.batch.keep((~finished).nonzero().flatten())

    def _forward(self) -> None:
        batch = self.batch
        table = batch.table(batch.lanes, (lane.index for row in batch.lanes for lane in row))
        logits = self._read(self.bank, table, batch.last().expand_as(table))
        batch.reads = [(logits, table)]

    def _rows(self, most: int) -> int:
        """Number of rows to decode together where there is memory for `most`."""
        return max(self.each, min(most, self.each * len(self.order)))

    def _read(self, bank: Bank, places: Tensor, tokens: Tensor) -> Tensor:
        """Computes logits (lanes, vocab) after each lane of `bank` reads its one of `tokens`, which
        lie as the lanes' `places` do; every lane has a place."""
        positions = bank.prepare()
        read = torch.empty_like(positions)
        read[places] = tokens
        return self.model.forward(read[:, None], positions[:, None], bank, bank.on)

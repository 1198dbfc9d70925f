"""A generation of the hf engine that requests join and leave while it runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.drawing import Drawing
from steer.engines.hf.batch import Batch
from steer.engines.hf.compiled import Kernels
from steer.engines.hf.generation import Generation
from steer.engines.hf.lanes import Context
from steer.engines.hf.model import LaneModel
from steer.engines.interface import FinishReason, Request, most_streams
from steer.engines.live import Order, Told, Wrote
from steer.engines.scoring import Part
from steer.engines.tokens import require_room
from steer.errors import SteerError
from steer.guidance import Shown, Stream

KEPT = 6144
"""Tokens of contexts that stay prefilled for later requests."""

MEASURED = 64
"""Contexts whose lengths are remembered: most requests have those of others."""

FEW = 8
"""Lanes that there is room for at first."""


class LiveBatch(Batch):
    """Rows with a sampling, a length and a beginning each, as their `orders` (by id) say. One that
    cannot go on fails, and no other."""

    def __init__(
        self,
        longest: int,
        ends: Tensor,
        kernels: Kernels | None,
        orders: Mapping[int, Order],
    ) -> None:
        super().__init__(1, Sampling(max_new_tokens=longest), ends, kernels)
        self.orders = orders
        self.drawing = Drawing(self, orders)

    def widen(self, streams: int) -> None:
        """Makes room for rows of so many streams."""
        if (more := streams - self.streams) <= 0:
            return
        super().widen(streams)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(more, self.sums.shape[1])])
        self.reads = [
            (logits, torch.cat([table, table[:1].expand(more, -1)])) for logits, table in self.reads
        ]

    def append(self, tokens: Tensor) -> Tensor:
        """Writes the next token of every row. Returns which rows are done, (rows,) bool."""
        super().append(tokens)
        ids = [request.id for request in self.requests]
        longest = torch.tensor([self.orders[id].longest for id in ids], device=tokens.device)
        failed = torch.tensor([id in self.drawing.failed for id in ids], device=tokens.device)
        return torch.isin(tokens, self.ends) | (self.counts >= longest) | failed

    def _draw(self, rows: slice, part: Part) -> Tensor:
        chosen, log_probs = self.drawing.choose(rows, part)
        self.sums[:, rows] += log_probs
        return chosen

    def wrote(self, done: Tensor) -> list[Wrote]:
        """What each row wrote in the last step; `done` (rows,) says which rows end with it."""
        last, sums = self.last().tolist(), self.sums.T.tolist()
        counts, ends = self.counts.tolist(), set(self.ends.tolist())
        found = []
        for row, (request, over) in enumerate(zip(self.requests, done.tolist(), strict=True)):
            means = _means(request, sums[row], counts[row]) if over else None
            finish: FinishReason = "stop" if last[row] in ends else "length"
            told = self.drawing.told.get(request.id, Told())
            found.append(
                Wrote(
                    id=request.id,
                    token=last[row],
                    log_prob=told.log_prob,
                    top=told.top,
                    trace=told.trace,
                    finish=finish if over else None,
                    failed=request.id in self.drawing.failed,
                    means=means,
                )
            )
        self.drawing.told, self.drawing.failed = {}, set()
        return found


class Live(Generation):
    """Rows that come and go. `lanes` is how many streams of rows decode together, and `memory` the
    bytes that their caches may take. Not for several threads at once."""

    def __init__(
        self, model: LaneModel, ends: Tensor, lanes: int, longest: int, memory: int
    ) -> None:
        super().__init__(model, ends, lanes, (), Sampling(max_new_tokens=longest))
        self.orders: dict[int, Order] = {}
        self.longest, self.memory = longest, memory
        self.bank = model.bank(FEW)
        self.batch: LiveBatch = self._new_batch()
        self.token_bytes = 2 * math.prod(model.body.kv_shape) * model.body.dtype.itemsize
        self.cancelled: set[int] = set()
        self.length = lru_cache(MEASURED)(self._length)

    def _new_batch(self) -> LiveBatch:
        return LiveBatch(self.longest, self.ends, self.model.body.kernels, self.orders)

    @property
    def busy(self) -> bool:
        """Whether a step would write anything."""
        return bool(self.waiting or self.batch.requests)

    @property
    def count(self) -> int:
        """Number of rows that decode together now."""
        return len(self.batch.requests)

    def check(self, order: Order) -> None:
        """Raises `SteerError` for an order that could never be served."""
        order.require_at_most(self.longest)
        if len(order.request.streams) > self.rows:
            raise SteerError(f"the setting has {len(order.request.streams)} streams; use fewer")
        contexts = {stream.context for stream in order.request.streams}
        longest = max(map(self.length, contexts))
        require_room(longest, order.longest, self.model.body.context)
        if shape := order.request.shape:
            self.model.masks(self.ends).check(shape, order.begun)

    def add(self, orders: Iterable[Order]) -> None:
        """Adds orders, whose ids nothing else that runs has."""
        for order in orders:
            self.orders[order.request.id] = order
            self.waiting.append(order.request)

    def cancel(self, ids: Iterable[int]) -> None:
        """Drops rows that wait or run; others of these ids are no longer there."""
        self.cancelled |= {id for id in ids if id in self.orders}

    def step(self) -> list[Wrote]:
        """Writes one token of every row. A row's first comes in the step that admits it."""
        with torch.inference_mode():
            self._leave()
            if self.batch.requests:
                self._forward()
            self._admit()
            if not self.batch.requests:
                return []
            done = self.batch.step()
            found = self.batch.wrote(done)
            self._forget(each.id for each in found if each.finish)
            self._drop(done)
            return found

    def _length(self, context: str | Shown) -> int:
        return len(self.model.encode(context))

    def _leave(self) -> None:
        gone, self.cancelled = self.cancelled, set()
        if gone:
            kept = [request for request in self.waiting if request.id not in gone]
            self.waiting.clear()
            self.waiting += kept
            self._drop(torch.tensor([request.id in gone for request in self.batch.requests]).bool())
            self._forget(gone)
        if not self.batch.requests and self.bank.cache.shape[4]:  # what the longest row needed
            self.bank = self.model.bank(FEW)
            self.batch = self._new_batch()

    def _forget(self, ids: Iterable[int]) -> None:
        for id in ids:
            self.orders.pop(id, None)

    def _rows(self, most: int) -> int:
        return most

    def _admit(self) -> None:
        """Admits what there is room for, but after one that had to read a new context no other:
        the rows that are there wait for its prefill."""
        admitted: list[Request] = []
        while self.waiting and self._has_room(self.waiting[0], admitted):
            admitted.append(self.waiting.popleft())
            if any(self._key(admitted[-1], s) not in self.contexts for s in admitted[-1].streams):
                break
        if admitted:
            self.batch.widen(most_streams(admitted))
            self.bank.reserve(self.bank.count + sum(len(each.streams) for each in admitted))
            if any(each.shape for each in admitted):
                self.batch.masks = self.model.masks(self.ends)
            self._add(admitted)

    def _has_room(self, request: Request, admitted: Sequence[Request]) -> bool:
        there = [*self.batch.requests, *admitted]
        lanes = sum(len(each.streams) for each in there)
        own = len(request.streams)
        longest = max(self.orders[each.id].longest for each in (*there, request))
        size = (lanes + own) * longest * self.token_bytes
        return not there or (lanes + own <= self.rows and size <= self.memory)

    def _adapter(self, request: Request, stream: Stream) -> int:
        return self.orders[request.id].adapter if stream.adapter else 0

    def _key(self, request: Request, stream: Stream) -> tuple[int, str | Shown]:
        return self._adapter(request, stream), stream.context

    def _context(self, adapter: int, read: str | Shown) -> Context:
        key = (adapter, read)
        if key not in self.contexts:
            self.ids = {read: self.model.encode(read)}
        found = self.contexts.pop(key, None) or self._prefill(adapter, read)
        self.contexts[key] = found  # the newest last
        while sum(each.length for each in self.contexts.values()) > KEPT and len(self.contexts) > 1:
            del self.contexts[next(iter(self.contexts))]
        return found


def _means(request: Request, sums: Sequence[float], count: int) -> dict[str, float]:
    return {s.name: total / count for s, total in zip(request.streams, sums, strict=False)}

"""A generation of the vllm engine that requests join and leave while it runs."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from vllm.sampling_params import RequestOutputKind

from steer.engines.interface import FinishReason
from steer.engines.live import Order, Told, Wrote
from steer.engines.tokens import require_room
from steer.engines.vllm.generation import mean
from steer.engines.vllm.groups import Group, Groups, Serving, is_lost, require_another_try
from steer.engines.vllm.processor import take_told
from steer.engines.vllm.room import Room
from steer.guidance import Shown

MEASURED = 64
"""Contexts whose token ids are remembered: most requests have those of others."""

log = logging.getLogger(__name__)


@dataclass
class _Row:
    """What a record has written: the `tokens` that were told, and how many its present try has."""

    order: Order
    tokens: list[int] = field(default_factory=list)
    count: int = 0

    def again(self) -> Order:
        """What is ordered when the record begins again: what was told is what it begins with."""
        if len(self.tokens) <= len(self.order.begun):
            return self.order
        left = self.order.longest - len(self.tokens)
        sampling = self.order.sampling.model_copy(update={"max_new_tokens": left})
        return replace(self.order, begun=tuple(self.tokens), sampling=sampling)


class Live(Groups):
    """Groups that come and go; see `steer.engines.live.Live`. What earlier ones read stays in
    vLLM's cache of prefixes while there is room."""

    def __init__(self, engine: Serving, longest: int) -> None:
        super().__init__(engine, longest, RequestOutputKind.DELTA)
        self.longest = longest
        self.most = self.most_now = engine.capacity.sequences  # groups that run together
        self.rows: dict[int, _Row] = {}  # by the request's id
        self.cancelled: set[int] = set()
        self._ids = lru_cache(MEASURED)(engine.encode)

    def ids(self, context: str | Shown) -> list[int]:
        """Token ids of a context."""
        return self._ids(context)

    @property
    def busy(self) -> bool:
        """Whether a step would write anything."""
        return bool(self.waiting or self.running)

    @property
    def count(self) -> int:
        """Number of rows that decode together now."""
        return len(self.running)

    def length(self, context: str | Shown) -> int:
        """Number of tokens of a context."""
        return len(self.ids(context))

    def check(self, order: Order) -> None:
        """Raises `SteerError` for an order that could never be served."""
        order.require_at_most(self.longest)
        longest = max(self.length(stream.context) for stream in order.request.streams)
        require_room(longest, order.longest, self.engine.max_context)
        group = self.group(order)
        if not Room(self.engine.capacity).take(group.plans):
            raise self.too_large(group)
        if shape := order.request.shape:
            self.call.masks().check(shape, order.begun)

    def add(self, orders: Iterable[Order]) -> None:
        """Adds orders, whose ids nothing else that runs has."""
        for order in orders:
            self.rows[order.request.id] = _Row(order)
            self.waiting.append(self.group(order))

    def cancel(self, ids: Iterable[int]) -> None:
        """Drops rows that wait or run; others of these ids are no longer there."""
        self.cancelled |= {id for id in ids if id in self.rows}

    def step(self) -> list[Wrote]:
        """Writes one token of every row. A row's first comes in the step that admits it. When it
        fails, whatever the reason, nothing is left in vLLM."""
        try:
            self._leave()
            self._admit()
            return self._collect(self.read_step()) if self.running else []
        except BaseException:
            self.abort(self.running.values())
            raise

    def _leave(self) -> None:
        gone, self.cancelled = self.cancelled, set()
        if gone:
            kept = [each for each in self.waiting if each.order.request.id not in gone]
            self.waiting.clear()
            self.waiting.extend(kept)
            leaving = [n for n, each in self.running.items() if each.order.request.id in gone]
            self.abort([self.end(number) for number in leaving])
            for id in gone:
                self.rows.pop(id, None)

    def _admit(self) -> None:
        """Starts what there is room for, but after one that reads a new context no other: the rows
        that are there wait until it is read."""
        self.room.begin_step()
        while self.waiting and len(self.running) < self.most_now:
            first = self.waiting[0]
            new = any(not self.room.readers[plan.read] for plan in first.plans)
            if not self.room.take(first.plans):
                break
            self.rows[first.order.request.id].count = 0
            self.start_waiting()
            if new:
                break
        if self.waiting and not self.running:  # `check` refuses it, so it is not to be expected
            raise self.too_large(self.waiting[0])

    def _collect(self, found: dict[int, dict[int, Any]]) -> list[Wrote]:
        wanted = any(self.running[number].order.told for number in found)
        told = self.engine.llm.collective_rpc(take_told)[0] if wanted else {}
        wrote = []
        for number, parts in found.items():
            group = self.running[number]
            if not group.together(parts):
                self._restart(self.end(number))
                continue
            row = self.rows[group.order.request.id]
            row.count += 1
            if row.count > len(row.tokens):  # else it was told before the group began again
                ordered = [parts[stream] for stream in range(len(parts))]
                wrote.append(self._wrote(row, ordered, told.get(group.order.request.id, Told())))
                if wrote[-1].finish:
                    self._finish(number)
        return wrote

    def _wrote(self, row: _Row, parts: Sequence[Any], told: Told) -> Wrote:
        (token,), request = parts[0].token_ids, row.order.request
        row.tokens.append(token)
        over = token in self.ends or row.count == row.order.longest
        reason: FinishReason = "stop" if token in self.ends else "length"
        means = {
            stream.name: mean(part, row.count)
            for stream, part in zip(request.streams, parts, strict=True)
        }
        return Wrote(
            id=request.id,
            token=token,
            log_prob=told.log_prob,
            top=told.top,
            trace=told.trace,
            finish=reason if over else None,
            failed=is_lost(parts),
            means=means if over else None,
        )

    def _finish(self, number: int) -> None:
        del self.rows[self.end(number).order.request.id]
        self.most_now = min(self.most, self.most_now + 1)

    def _restart(self, group: Group) -> None:
        """Begins a group again, with fewer beside it until others have ended. Raises `SteerError`
        as `require_another_try` does."""
        self.abort([group])
        require_another_try(group)
        self.most_now = max(1, len(self.running))
        self.engine.restarts += 1
        order = self.rows[group.order.request.id].again()
        log.warning("record %s fell out of step and is begun again", order.request.id)
        self.waiting.appendleft(replace(group, order=order))

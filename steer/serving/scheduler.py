"""One thread that steps the engines: orders of all requests join its batches, and what they write
is handed to whoever asked."""

import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from steer.engines.live import Live, Order, Wrote
from steer.serving.refusal import Refusal

log = logging.getLogger(__name__)

Deliver = Callable[[Sequence[Wrote] | Refusal], None]

_LATELY = 64  # finished rows that the rate is taken from
_FAILED = "the engine failed; the request was not answered"


@dataclass
class _Row:
    """A row that runs or waits: in which batch, and whom to tell."""

    batch: str
    deliver: Deliver


class Scheduler:
    """Batches by name, each of an engine, made by `lives`, and at most `most` rows at a time.

    `deliver` is called on the engine's thread, with what the rows of one submission wrote in one
    step, or with the `Refusal` that ends them all.
    """

    def __init__(self, lives: Mapping[str, Callable[[], Live]], most: int) -> None:
        self._make, self._most = dict(lives), most
        self._lives: dict[str, Live] = {}
        self._changed = threading.Condition()
        self._rows: dict[int, _Row] = {}
        self._new: deque[tuple[str, list[Order]]] = deque()
        self._gone: deque[tuple[str, list[int]]] = deque()
        self._numbers = itertools.count()
        self._ended: deque[float] = deque(maxlen=_LATELY)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="steer-engine", daemon=True)

    def start(self) -> None:
        """Begins to step."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; rows that run are dropped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    @property
    def outstanding(self) -> int:
        """Rows that run or wait."""
        return len(self._rows)

    @property
    def running(self) -> int:
        """Rows that are in a batch."""
        return sum(live.count for live in list(self._lives.values()))

    def submit(self, batch: str, orders: Sequence[Order], deliver: Deliver) -> list[int]:
        """Lets the orders join a batch; gives their ids, in order. Raises `Refusal` when too
        many rows run or wait."""
        with self._changed:
            if len(self._rows) + len(orders) > self._most:
                raise Refusal(
                    429,
                    f"{len(self._rows)} texts are written or wait, and {len(orders)} more are too "
                    "many; come again later",
                    kind="rate_limit_error",
                    code="queue_full",
                    after=self._wait(len(orders)),
                )
            ids = [next(self._numbers) for _ in orders]
            self._rows |= {id: _Row(batch, deliver) for id in ids}
            self._new.append(
                (
                    batch,
                    [
                        replace(order, request=replace(order.request, id=id))
                        for id, order in zip(ids, orders, strict=True)
                    ],
                )
            )
            self._changed.notify()
        return ids

    def cancel(self, ids: Sequence[int]) -> None:
        """Drops those of the rows that still run or wait."""
        with self._changed:
            for id in ids:
                if row := self._rows.pop(id, None):
                    self._gone.append((row.batch, [id]))
            self._changed.notify()

    def _wait(self, wanted: int) -> int:
        """Seconds until there may be room for so many rows, from how fast rows ended lately."""
        span = self._ended[-1] - self._ended[0] if len(self._ended) > 1 else 1.0
        return min(60, max(1, math.ceil(wanted * span / max(1, len(self._ended) - 1))))

    def _run(self) -> None:
        while self._take():
            for batch, live in self._lives.items():
                if live.busy or live.cancelled:
                    self._step(batch, live)

    def _take(self) -> bool:
        """Takes in what was submitted and cancelled, and waits where there is nothing to do. False
        at the end."""
        with self._changed:
            while not (self._stopping or self._new or self._gone or self._busy):
                self._changed.wait()
            new, gone = list(self._new), list(self._gone)
            self._new.clear()
            self._gone.clear()
        for batch, orders in new:
            if batch not in self._lives:
                self._lives[batch] = self._make[batch]()
            self._lives[batch].add(orders)
        for batch, ids in gone:
            self._lives[batch].cancel(ids)
        return not self._stopping

    @property
    def _busy(self) -> bool:
        return any(live.busy for live in self._lives.values())

    def _step(self, batch: str, live: Live) -> None:
        try:
            wrote = live.step()
        except Exception:  # the thread must go on for the others
            log.exception("the engine of %s failed; its requests are refused", batch)
            self._fail(batch)
            return
        told: dict[Deliver, list[Wrote]] = {}
        with self._changed:
            for each in wrote:
                row = self._rows.get(each.id)
                if row is not None:
                    told.setdefault(row.deliver, []).append(each)
                    if each.finish:
                        del self._rows[each.id]
                        self._ended.append(time.monotonic())
        for deliver, several in told.items():
            deliver(several)

    def _fail(self, batch: str) -> None:
        """Ends every row of an engine, whose state is unknown, and lets it begin anew."""
        self._lives[batch] = self._make[batch]()
        with self._changed:
            lost = {id: row for id, row in self._rows.items() if row.batch == batch}
            waiting = {order.request.id for _, orders in self._new for order in orders}
            lost = {id: row for id, row in lost.items() if id not in waiting}
            for id in lost:
                del self._rows[id]
        for deliver in {row.deliver for row in lost.values()}:
            deliver(Refusal(500, _FAILED, kind="server_error"))

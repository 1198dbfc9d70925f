"""A request from its orders to its answer: whole, or as events while it is written."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from steer.engines.live import Wrote
from steer.serving.bodies import Asked, ChatBody
from steer.serving.experts import Served
from steer.serving.metrics import Metrics
from steer.serving.ordering import Ordered
from steer.serving.recent import Recent
from steer.serving.refusal import Refusal
from steer.serving.scheduler import Scheduler
from steer.serving.shapes import Shape
from steer.serving.writing import Piece, Writing

T = TypeVar("T")

_LOOK = 0.25  # seconds between looks whether a client is still there


@dataclass
class Answer:
    """One request while it is answered."""

    served: Served
    ordered: Ordered
    asked: Asked
    scheduler: Scheduler
    metrics: Metrics
    recent: Recent
    timeout: float
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        chat = isinstance(self.asked, ChatBody)
        self.spelling = self.served.spelling
        id = f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}"
        self.shape = Shape(chat, id, int(time.time()), self.served, self.ordered, self.spelling)
        self.writings = [
            Writing(
                index,
                self.spelling.text,
                order.begun,
                stops=self.asked.stops,
                spaced=bool(self.ordered.lead) and (self.asked.echoes or not order.begun),
                echoes=self.asked.echoes,
            )
            for index, order in enumerate(self.ordered.orders)
        ]

    async def respond(self, request: Request) -> Response:
        """Answers as was asked. Raises `Refusal` where that is not possible; one that comes later
        is an event of the stream."""
        pieces = self._pieces()
        # A refusal of the queue is an answer of its own, so the first piece is waited for.
        first = await _unless_gone(request, anext(pieces))
        if self.asked.stream:
            return StreamingResponse(self._events(first, pieces), media_type="text/event-stream")
        return JSONResponse(await _unless_gone(request, self._whole(first, pieces)))

    async def _whole(self, first: Piece, pieces: AsyncIterator[Piece]) -> dict[str, object]:
        wrote: dict[int, list[Wrote]] = {each.index: [] for each in self.writings}
        wrote[first.index] += first.wrote
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                wrote[piece.index] += piece.wrote
        texts = [
            Piece(each.index, each.sent, tuple(wrote[each.index]), each.ended)
            for each in self.writings
        ]
        return self.shape.whole(texts, self._usage())

    async def _events(self, first: Piece, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
        begun: set[int] = set()
        try:
            async with aclosing(pieces):  # type: ignore[type-var]
                piece: Piece | None = first
                while piece is not None:
                    if piece.text or piece.ended or piece.wrote:
                        yield _event(self.shape.chunk(piece, piece.index not in begun))
                        begun.add(piece.index)
                    piece = await anext(pieces, None)
            if self.asked.stream_options.include_usage:
                yield _event(self.shape.usage(self._usage()))
        except Refusal as refusal:
            yield _event(refusal.body())
        yield b"data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[Piece]:
        """What the rows write, as it comes; they are dropped when nobody listens any more."""
        loop, came = asyncio.get_running_loop(), asyncio.Queue[Sequence[Wrote] | Refusal]()
        deliver = partial(_hand_over, loop, came)
        ids = self.scheduler.submit(self.served.batch, self.ordered.orders, deliver)
        places = {id: place for place, id in enumerate(ids)}
        open_ids = set(ids)
        try:
            while open_ids:
                for each in await self._next(came):
                    if each.id not in open_ids:
                        continue
                    piece = self._take(places[each.id], each)
                    if piece.ended:
                        open_ids.discard(each.id)
                        self.scheduler.cancel([each.id])
                    yield piece
        finally:
            self.scheduler.cancel(sorted(open_ids))
            self.metrics.wrote(sum(each.written for each in self.writings))

    async def _next(self, came: "asyncio.Queue[Sequence[Wrote] | Refusal]") -> Sequence[Wrote]:
        """What comes next, in the time that is left."""
        left = self.began + self.timeout - time.monotonic()
        try:
            wrote = await asyncio.wait_for(came.get(), max(0.0, left))
        except TimeoutError:
            raise Refusal(
                504,
                f"the request took more than {self.timeout:g} seconds; ask for less at a time",
                kind="timeout_error",
                code="timeout",
            ) from None
        if isinstance(wrote, Refusal):
            raise wrote
        return wrote

    def _take(self, place: int, wrote: Wrote) -> Piece:
        if wrote.failed:
            raise Refusal(
                422,
                "the streams, or the shape, rule out every token at some place; choose weaker "
                "settings, or a simpler shape",
                code="no_token_left",
            )
        writing = self.writings[place]
        if writing.written == 0:
            self.metrics.first_token.observe(time.monotonic() - self.began)
        piece = writing.take(wrote)
        if piece.ended:
            self.recent.keep(self.shape.id, place, self.served, self.ordered, writing)
        return piece

    def _usage(self) -> dict[str, int]:
        written = sum(each.written for each in self.writings)
        return {
            "prompt_tokens": self.ordered.read,
            "completion_tokens": written,
            "total_tokens": self.ordered.read + written,
        }


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Waits for `work`, and ends it when the client has gone away."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=_LOOK)
            if not task.done() and await request.is_disconnected():
                raise Refusal(499, "the client went away")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    came: "asyncio.Queue[Sequence[Wrote] | Refusal]",
    wrote: Sequence[Wrote] | Refusal,
) -> None:
    """Hands what was written to the request's own thread; a loop that ended wants nothing."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(came.put_nowait, wrote)


def _event(values: object) -> bytes:
    return f"data: {json.dumps(values, ensure_ascii=True)}\n\n".encode()

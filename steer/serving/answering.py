"""A request from its orders to its answer: whole, or as events while it is written."""

import asyncio
import json
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from steer.engines.live import Wrote
from steer.serving.bodies import Asked, ChatBody
from steer.serving.delivery import Inbox, Post
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
    post: Post
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
                streams=self.asked.stream,
            )
            for index, order in enumerate(self.ordered.orders)
        ]

    async def respond(self, request: Request) -> Response:
        """Answers as was asked. Raises `Refusal` where that is not possible; one that comes later
        is an event of the stream."""
        looks = self._looks()
        # A refusal of the queue is an answer of its own, so the first look is waited for.
        first = await _unless_gone(request, anext(looks))
        if self.asked.stream:
            return StreamingResponse(self._events(first, looks), media_type="text/event-stream")
        return JSONResponse(await _unless_gone(request, self._whole(first, looks)))

    async def _whole(
        self, first: Sequence[Piece], looks: AsyncIterator[Sequence[Piece]]
    ) -> dict[str, object]:
        wrote: dict[int, list[Wrote]] = {each.index: [] for each in self.writings}
        async with aclosing(looks):  # type: ignore[type-var]
            async for pieces in _after(first, looks):
                for piece in pieces:
                    wrote[piece.index] += piece.wrote
        texts = [
            Piece(each.index, each.sent, tuple(wrote[each.index]), each.ended)
            for each in self.writings
        ]
        return self.shape.whole(texts, self._usage())

    async def _events(
        self, first: Sequence[Piece], looks: AsyncIterator[Sequence[Piece]]
    ) -> AsyncIterator[bytes]:
        """Events, one for each row that wrote; those of one look are sent together."""
        begun: set[int] = set()
        try:
            async with aclosing(looks):  # type: ignore[type-var]
                async for pieces in _after(first, looks):
                    events = []
                    for piece in pieces:
                        if piece.text or piece.ended or piece.wrote:
                            events.append(_event(self.shape.chunk(piece, piece.index not in begun)))
                            begun.add(piece.index)
                    yield b"".join(events)
            if self.asked.stream_options.include_usage:
                yield _event(self.shape.usage(self._usage()))
        except Refusal as refusal:
            yield _event(refusal.body())
        yield b"data: [DONE]\n\n"

    async def _looks(self) -> AsyncIterator[Sequence[Piece]]:
        """What the rows wrote, at each look; they are dropped when nobody listens any more."""
        inbox = Inbox()
        deliver = partial(self.post.put, asyncio.get_running_loop(), inbox)
        ids = self.scheduler.submit(self.served.batch, self.ordered.orders, deliver)
        places = {id: place for place, id in enumerate(ids)}
        open_ids = set(ids)
        late = asyncio.get_running_loop().call_later(self.timeout, inbox.put, self._late())
        try:
            while open_ids:
                rows = _by_row(await inbox.next())
                pieces = {
                    id: self._take(places[id], wrote)
                    for id, wrote in rows.items()
                    if id in open_ids
                }
                ended = [id for id, piece in pieces.items() if piece.ended]
                open_ids.difference_update(ended)
                self.scheduler.cancel(ended)
                yield [*pieces.values()]
        finally:
            late.cancel()
            self.scheduler.cancel(sorted(open_ids))
            self.metrics.wrote(sum(each.written for each in self.writings))

    def _late(self) -> Refusal:
        return Refusal(
            504,
            f"the request took more than {self.timeout:g} seconds; ask for less at a time",
            kind="timeout_error",
            code="timeout",
        )

    def _take(self, place: int, wrote: Sequence[Wrote]) -> Piece:
        if any(each.failed for each in wrote):
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


async def _after(
    first: Sequence[Piece], looks: AsyncIterator[Sequence[Piece]]
) -> AsyncIterator[Sequence[Piece]]:
    yield first
    async for pieces in looks:
        yield pieces


def _by_row(wrote: Iterable[Wrote]) -> dict[int, list[Wrote]]:
    """Tokens by the id of their row, those of a row in order."""
    found: defaultdict[int, list[Wrote]] = defaultdict(list)
    for each in wrote:
        found[each.id].append(each)
    return found


def _event(values: object) -> bytes:
    return f"data: {json.dumps(values, ensure_ascii=True)}\n\n".encode()

"""What the engine's thread writes comes to the requests' own thread: with one call for many rows,
and one look for many tokens."""

import asyncio
from collections import deque
from collections.abc import Sequence

from steer.engines.hf.live import Wrote
from steer.serving.refusal import Refusal

Parcel = Sequence[Wrote] | Refusal


class Inbox:
    """What came for one request and was not looked at yet. For one thread, and one reader."""

    def __init__(self) -> None:
        self._wrote: list[Wrote] = []
        self._refusal: Refusal | None = None
        self._came = asyncio.Event()

    def put(self, parcel: Parcel) -> None:
        """Adds what was written; after a refusal comes no more."""
        if isinstance(parcel, Refusal):
            self._refusal = self._refusal or parcel
        else:
            self._wrote += parcel
        self._came.set()

    async def next(self) -> Sequence[Wrote]:
        """Waits for something, and takes all that is there. Raises a `Refusal` that came, once what
        was written before it is taken."""
        await self._came.wait()
        wrote, self._wrote = self._wrote, []
        if not wrote and self._refusal:
            raise self._refusal
        if not self._refusal:
            self._came.clear()
        return wrote


class Post:
    """Carries parcels to a loop. The loop is woken once for all that lie there: each call from
    another thread would cost a system call, and the engine its turn with the interpreter."""

    def __init__(self) -> None:
        self._lying: deque[tuple[Inbox, Parcel]] = deque()
        self._woken = False

    def put(self, loop: asyncio.AbstractEventLoop, inbox: Inbox, parcel: Parcel) -> None:
        """Sends a parcel, from any thread; a loop that ended wants nothing."""
        self._lying.append((inbox, parcel))
        if not self._woken and not loop.is_closed():
            self._woken = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # first: what comes from here on wakes the loop again
        while self._lying:
            inbox, parcel = self._lying.popleft()
            inbox.put(parcel)

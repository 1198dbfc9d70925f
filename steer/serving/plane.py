"""The real texts of a server on a plane, and the one nearest to any text."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steer.data.words import shared_words
from steer.errors import SteerError
from steer.models.cache import Cache
from steer.models.embedder import Embedder, load_embedder
from steer.runs.pool import Example
from steer.serving.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placed:
    """Unit rows (texts, dimensions) and the two principal directions (dimensions, 2) about their
    `middle`, which carry the `share` of the variance."""

    embedder: Embedder
    rows: np.ndarray
    middle: np.ndarray
    directions: np.ndarray
    share: float

    def points(self, rows: np.ndarray) -> list[list[float]]:
        """Places rows (n, dimensions) on the plane."""
        found: list[list[float]] = ((rows - self.middle) @ self.directions).round(4).tolist()
        return found


class Plane:
    """Real texts on a plane. They are embedded when somebody first asks, on a thread of its own,
    and what one asks for meanwhile waits for that."""

    def __init__(self, texts: Sequence[str], embedder: str | None) -> None:
        self.texts, self.done = texts, 0
        self._named, self._ended = embedder, False
        self._worker = ThreadPoolExecutor(1, "steer-plane")
        self._placed: Future[Placed] | None = None

    def end(self) -> None:
        """Ends the thread, in the middle of its work if need be."""
        self._ended = True
        self._worker.shutdown(wait=False, cancel_futures=True)

    def describe(self) -> dict[str, Any]:
        """Says where each text lies, or how many are embedded so far. Raises `Refusal` where that
        is not possible here."""
        placed = self._begin()
        counted = {"done": self.done, "of": len(self.texts)}
        if not placed.done():
            return counted | {"points": None, "share": None}
        found = _result(placed)
        return counted | {"points": found.points(found.rows), "share": round(found.share, 3)}

    async def nearest(self, texts: Sequence[Example]) -> list[dict[str, Any]]:
        """Places `texts` and finds for each the real text nearest to it, but for itself. Raises
        `Refusal` where that is not possible here."""
        placed = self._begin()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._worker, lambda: self._nearest(_result(placed), texts)
        )

    def _begin(self) -> "Future[Placed]":
        if self._placed is None:
            self._placed = self._worker.submit(self._place)
        return self._placed

    def _place(self) -> Placed:
        embedder = load_embedder(self._named)
        # What clients ask about is kept nowhere.
        rows = replace(embedder, cache=Cache()).embed(self.texts, self._count)
        self.done = len(self.texts)
        middle = rows.mean(axis=0)
        values, vectors = np.linalg.eigh((rows - middle).T @ (rows - middle))
        directions = vectors[:, :-3:-1]
        # A direction has no sign of its own; this one does not change from start to start.
        directions = directions * np.where(directions.sum(axis=0) < 0, -1, 1)
        share = values[-2:].sum() / max(values.sum(), np.finfo(np.float32).tiny)
        return Placed(embedder, rows, middle, directions, float(share))

    def _count(self, done: int, of: int) -> None:
        self.done = done
        if self._ended:
            raise SteerError("the server ends")

    def _nearest(self, placed: Placed, texts: Sequence[Example]) -> list[dict[str, Any]]:
        rows = placed.embedder.embed([each.text for each in texts])
        cosines = rows @ placed.rows.T
        for cosine, own in zip(cosines, texts, strict=True):
            row = int(own.id.removeprefix("real:")) if own.id.startswith("real:") else -1
            if 0 <= row < len(cosine) > 1:
                cosine[row] = -2  # less than any
        found = zip(texts, placed.points(rows), cosines, strict=True)
        return [self._pair(each.text, point, cosine) for each, point, cosine in found]

    def _pair(self, text: str, point: list[float], cosines: np.ndarray) -> dict[str, Any]:
        row = int(cosines.argmax())
        real = self.texts[row]
        return {
            "point": point,
            "nearest": f"real:{row}",
            "text": real,
            "cosine": round(float(cosines[row]), 3),
            "marks": [shared_words(text, real), shared_words(real, text)],
        }


def _result(placed: "Future[Placed]") -> Placed:
    try:
        return placed.result()
    except SteerError as error:
        log.warning("the real texts have no map: %s", error)  # it may name a path
        message = "the texts cannot be embedded here, so there is no map; the server's log says why"
        raise Refusal(503, message, kind="server_error", code="no_map") from None

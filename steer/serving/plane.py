"""The real texts of a server on a plane, and the one nearest to any text."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from steer.data.words import shared_words
from steer.errors import SteerError
from steer.models.cache import Cache
from steer.models.embedder import Embedder, load_embedder
from steer.models.maps import FEW, fit_umap
from steer.runs.pool import Example
from steer.serving.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placed:
    """Unit rows (texts, dimensions), and where the `method` puts them: `points` (texts, 2). Other
    rows are placed among them by `place`. The two principal directions carry the `share` of the
    variance."""

    embedder: Embedder
    rows: np.ndarray
    method: Literal["UMAP", "PCA"]
    points: np.ndarray
    place: Callable[[np.ndarray], np.ndarray]
    share: float


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
            return counted | {"points": None, "share": None, "method": None}
        found = _result(placed)
        told = {"share": round(found.share, 3), "method": found.method}
        return counted | {"points": found.points.round(4).tolist()} | told

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
        place, share = _principal(rows)
        if len(rows) < FEW or not find_spec("umap"):
            return Placed(embedder, rows, "PCA", place(rows), place, share)
        model = fit_umap(rows, seed=0)
        return Placed(embedder, rows, "UMAP", model.embedding_, model.transform, share)

    def _count(self, done: int, of: int) -> None:
        self.done = done
        if self._ended:
            raise SteerError("the server ends")

    def _nearest(self, placed: Placed, texts: Sequence[Example]) -> list[dict[str, Any]]:
        rows = placed.embedder.embed([each.text for each in texts])
        cosines, points = rows @ placed.rows.T, np.array(placed.place(rows))
        for number, own in enumerate(texts):
            row = int(own.id.removeprefix("real:")) if own.id.startswith("real:") else -1
            if 0 <= row < len(placed.rows) > 1:
                points[number] = placed.points[row]
                cosines[number, row] = -2  # less than any
        found = zip(texts, points.round(4).tolist(), cosines, strict=True)
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


def _principal(rows: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """What puts rows (n, dimensions) on the plane of the two principal directions of `rows`, and
    the share of the variance that these carry."""
    middle = rows.mean(axis=0)
    values, vectors = np.linalg.eigh((rows - middle).T @ (rows - middle))
    directions = vectors[:, :-3:-1]
    # A direction has no sign of its own; this one does not change from start to start.
    directions = directions * np.where(directions.sum(axis=0) < 0, -1, 1)
    share = values[-2:].sum() / max(values.sum(), np.finfo(np.float32).tiny)
    return lambda others: (others - middle) @ directions, float(share)


def _result(placed: "Future[Placed]") -> Placed:
    try:
        return placed.result()
    except SteerError as error:
        log.warning("the real texts have no map: %s", error)  # it may name a path
        message = "the texts cannot be embedded here, so there is no map; the server's log says why"
        raise Refusal(503, message, kind="server_error", code="no_map") from None

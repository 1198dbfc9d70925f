"""A map of records for embedding viewers: two coordinates and the nearest neighbours of each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from steer.errors import SteerError
from steer.models.cache import Cache
from steer.models.embedder import load_embedder

COLUMNS = ("projection_x", "projection_y", "neighbors")
"""Names that Embedding Atlas looks for (arXiv 2505.06386)."""

NEIGHBOURS, MOST, DETAILED = 10, 100_000, 5_000
"""Neighbours of a record; records of which a map is made at most, and by t-SNE at most."""


def atlas(texts: Sequence[str], embedder: str | None = None) -> list[dict[str, Any]]:
    """Gives each text its place on a map, and its nearest neighbours by cosine: their row numbers
    (from 0) and distances.

    The map is t-SNE of the embeddings, of more than `DETAILED` texts their two principal
    components, which takes far less time. Raises `SteerError` for more than `MOST` texts, as each
    is compared with every other.
    """
    if len(texts) > MOST:
        raise SteerError(
            f"--atlas compares every record with every other: at most {MOST:,}, found "
            f"{len(texts):,}; export without it, or choose some records first"
        )
    rows = load_embedder(embedder, cache=Cache()).embed(texts)
    return [
        dict(zip(COLUMNS, (float(x), float(y), near), strict=True))
        for (x, y), near in zip(project(rows), neighbours(rows), strict=True)
    ]


def project(rows: np.ndarray) -> np.ndarray:
    """Projects rows (n, d) to the plane, (n, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if len(rows) < 3:
        return np.zeros((len(rows), 2))
    if len(rows) > DETAILED:
        return np.asarray(PCA(2, random_state=0).fit_transform(rows))
    perplexity = min(30.0, math.sqrt(len(rows)))
    tsne = TSNE(perplexity=perplexity, init="pca", metric="cosine", random_state=0)
    return np.asarray(tsne.fit_transform(rows))


def neighbours(rows: np.ndarray) -> list[dict[str, list[Any]]]:
    """Finds for each of the rows (n, d) the nearest others by cosine distance, the nearest
    first."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS + 1, len(rows))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(rows)
    distances, ids = search.kneighbors(rows)
    return [
        {
            "ids": [int(id) for id in near if id != row][:NEIGHBOURS],
            "distances": [float(d) for d, id in zip(far, near, strict=True) if id != row][
                :NEIGHBOURS
            ],
        }
        for row, (far, near) in enumerate(zip(distances, ids, strict=True))
    ]

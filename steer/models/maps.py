"""Maps of texts: their embeddings on a plane, by UMAP where it is installed."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from umap import UMAP

FEW = 30
"""Texts below which a map is a projection: neighbours are too few for the other methods."""

_NEIGHBOURS = 15  # of a text, that UMAP keeps together


def fit_umap(rows: np.ndarray, seed: int) -> "UMAP":
    """Puts `rows` (texts, dimensions) on a plane by UMAP (arXiv 1802.03426), on one thread, as a
    seed needs. Its `embedding_` (texts, 2) is where they are."""
    from umap import UMAP

    return UMAP(n_neighbors=_NEIGHBOURS, random_state=seed, n_jobs=1).fit(rows)

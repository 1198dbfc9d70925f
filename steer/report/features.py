"""Features of embeddings for the report: where texts lie on a plane, and the real text nearest to
each record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from steer.evaluation.copying import longest_runs
from steer.models.maps import FEW, fit_umap
from steer.runs.records import Record

MIN_POINTS = 3
_PERPLEXITY = 30  # about as many, for t-SNE
_STEPS = 500
_TRUSTED = 5  # neighbours on the map that trustworthiness looks at

Method = Literal["UMAP", "t-SNE", "PCA"]


@dataclass(frozen=True)
class Rows:
    """Embeddings of a report: the unit rows (texts, dimensions) of each set of texts, and the
    embedder they are by."""

    embedder: str
    by_set: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plane:
    """Texts on a plane: `points` (texts, 2), and the `method` that put them there. `trust` is its
    trustworthiness: 1 where all neighbours on the plane are neighbours in the embedding (Venna and
    Kaski 2001). The two principal directions carry the `share` of the variance, and a plane of them
    has `principal_trust`."""

    points: np.ndarray
    method: Method
    trust: float
    share: float
    principal_trust: float


@dataclass(frozen=True)
class Pair:
    """A record and the real text nearest to it; `run` is the longest run of words in both."""

    method: str
    record: Record
    real: str
    cosine: float
    run: int


def project(rows: np.ndarray, seed: int = 0) -> Plane | None:
    """Puts `rows` (texts, dimensions) on a plane: by UMAP where it is installed, else by t-SNE, and
    by their first two principal components where there are `FEW`. None for too few different
    ones. The same rows and seed give the same plane."""
    from sklearn.decomposition import PCA

    if len(set(map(bytes, rows))) < MIN_POINTS:
        return None
    pca = PCA(n_components=2, svd_solver="full")
    principal = pca.fit_transform(rows)
    share, trust = float(pca.explained_variance_ratio_.sum()), _trust(rows, principal)
    if len(rows) < FEW:
        return Plane(principal, "PCA", trust, share, trust)
    method: Method = "UMAP" if find_spec("umap") else "t-SNE"
    points = fit_umap(rows, seed).embedding_ if method == "UMAP" else _tsne(rows, seed)
    return Plane(points, method, _trust(rows, points), share, trust)


def _tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    """Puts `rows` on a plane by t-SNE (van der Maaten and Hinton 2008), on one thread: the sums of
    several differ in their last digits, which grows to another plane."""
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    model = TSNE(init="pca", perplexity=perplexity, max_iter=_STEPS, random_state=seed)
    with threadpool_limits(1, user_api="openmp"):
        points: np.ndarray = model.fit_transform(rows)
    return points


def _trust(rows: np.ndarray, points: np.ndarray) -> float:
    from sklearn.manifold import trustworthiness

    return float(
        trustworthiness(rows, points, n_neighbors=min(_TRUSTED, max(1, (len(rows) - 1) // 2)))
    )


def closest_pairs(
    records: Mapping[str, Sequence[Record]],
    rows: Mapping[str, np.ndarray],
    real: Sequence[str],
    real_rows: np.ndarray,
    count: int,
) -> list[Pair]:
    """Finds for each method its `count` records nearest to a real text, nearest first over all.

    `rows` and `real_rows` are unit rows (texts, dimensions); near is a high cosine.
    """
    pairs = []
    for method, own in records.items():
        if not own:
            continue
        cosines = rows[method] @ real_rows.T
        nearest = cosines.argmax(axis=1)
        values = cosines[np.arange(len(own)), nearest]
        for i in np.argsort(-values, kind="stable")[:count]:
            text = real[nearest[i]]
            run = int(longest_runs([own[i].text], [text])[0])
            pairs.append(Pair(method, own[i], text, float(values[i]), run))
    return sorted(pairs, key=lambda pair: -pair.cosine)

"""Features of embeddings for the report: where texts lie on a plane, and the real text nearest to
each record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.evaluation.copying import longest_runs
from steer.runs.records import Record

MIN_POINTS = 3


@dataclass(frozen=True)
class Rows:
    """Embeddings of a report: the unit rows (texts, dimensions) of each set of texts, and the
    embedder they are by."""

    embedder: str
    by_set: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plane:
    """Texts on a plane: `points` (texts, 2), and the `share` of the variance that the two
    directions carry."""

    points: np.ndarray
    share: float


@dataclass(frozen=True)
class Pair:
    """A record and the real text nearest to it; `run` is the longest run of words in both."""

    method: str
    record: Record
    real: str
    cosine: float
    run: int


def project(rows: np.ndarray) -> Plane | None:
    """Projects onto the first two principal components of `rows` (texts, dimensions); None for too
    few."""
    from sklearn.decomposition import PCA

    if len(set(map(bytes, rows))) < MIN_POINTS:
        return None
    pca = PCA(n_components=2, svd_solver="full")
    return Plane(pca.fit_transform(rows), float(pca.explained_variance_ratio_.sum()))


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

"""Coverage: how far two sets of unit embeddings, rows of shape (texts, d), lie in the same region.

Perfect data, drawn from where the real texts come from, does not score 1 on all of these: alpha-
precision does, beta-recall is near 0.5. Read them beside the row of real texts.
"""

from dataclasses import dataclass

import numpy as np

from steer.evaluation.estimate import Estimate, interval

_LEVELS = np.linspace(0, 1, 30)


@dataclass(frozen=True)
class Cover:
    """Figures by text: `precision` and `density` of each synthetic one, `recall` and `coverage` of
    each real one. Means over texts are the metrics."""

    precision: np.ndarray
    recall: np.ndarray
    density: np.ndarray
    coverage: np.ndarray


def cover(synthetic: np.ndarray, real: np.ndarray, k: int = 5) -> Cover:
    """Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991) and density and
    coverage (Naeem et al. 2020, arXiv 2002.09797).

    A ball around each text reaches to its `k`-th nearest neighbour in its own set. Both sets need
    more than `k` texts.
    """
    distances = _distances(real, synthetic)
    inside: np.ndarray = distances < neighbour_distances(real, k)[:, None]
    recalled: np.ndarray = distances < neighbour_distances(synthetic, k)
    return Cover(
        precision=np.asarray(inside.any(axis=0)),
        recall=np.asarray(recalled.any(axis=1)),
        density=inside.sum(axis=0) / k,
        coverage=np.asarray(inside.any(axis=1)),
    )


def neighbour_distances(rows: np.ndarray, k: int) -> np.ndarray:
    """Distances of each row to its `k`-th nearest other row, shape (rows,)."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.astype(np.float64))
    distances: np.ndarray = nearest.kneighbors()[0]  # each row itself is left out
    return distances[:, -1]


def nearest(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of each row to the nearest of `others`, and that one's place; each (rows,)."""
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(others.astype(np.float64))
    distances, places = finder.kneighbors(rows.astype(np.float64))
    return distances[:, 0], places[:, 0]


def alpha_precision(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Memberships of each synthetic text in the 30 smallest supports of the real texts, bool
    (texts, levels): `integrated` makes IP_alpha of it (Alaa et al. 2022, arXiv 2102.08921, eq. 2).

    The support of level alpha is the ball around the real texts' mean that holds that share.
    """
    centre = real.mean(axis=0)
    radii = np.quantile(_to(centre, real), _LEVELS)
    return _to(centre, synthetic)[:, None] <= radii


def beta_recall(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Whether each real text is recalled at the 30 levels, bool (texts, levels): `integrated`
    makes IR_beta of it (Alaa et al. 2022, arXiv 2102.08921, eq. 3).

    It is when its nearest synthetic text is nearer than its nearest real one and within the level's
    ball around the mean of the synthetic texts. As in the authors' code, the radii are quantiles
    over those nearest synthetic texts: over all, a few that are nearest to many would distort it.
    """
    distances, places = nearest(real, synthetic)
    spread = _to(synthetic.mean(axis=0), synthetic[places])
    near = distances <= neighbour_distances(real, 1)
    inside: np.ndarray = near[:, None] & (spread[:, None] <= np.quantile(spread, _LEVELS))
    return inside


def integrated(shares: np.ndarray) -> np.ndarray:
    """Score of a curve: 1 minus twice the area between a curve of shares, last axis the 30 levels,
    and the diagonal: 1 is best, 0 is what all or nothing at every level scores."""
    step = _LEVELS[1] - _LEVELS[0]
    scores: np.ndarray = 1 - 2 * np.abs(shares - _LEVELS).sum(axis=-1) * step
    return scores


def score(inside: np.ndarray, counts: np.ndarray) -> Estimate:
    """Estimate of `integrated` over texts, `inside` (texts, levels), resampled by `counts` (draws,
    texts)."""
    samples = counts @ inside.astype(np.float64) / len(inside)
    return interval(float(integrated(inside.mean(axis=0))), integrated(samples))


def _to(centre: np.ndarray, rows: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.linalg.norm(rows.astype(np.float64) - centre, axis=1)
    return distances


def _distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    from sklearn.metrics import pairwise_distances

    distances: np.ndarray = pairwise_distances(rows.astype(np.float64), others.astype(np.float64))
    return distances

"""Regions of the real texts, and the loop between rounds that makes each as full as it is there."""

import math
from dataclasses import dataclass

import numpy as np

A_REGION = 20
"""Real texts in a region, about."""

LEAST, MOST = 0.5, 2.0
"""Bounds of a region's factor."""

_PRIOR = 5.0
_SURE = 1.96


@dataclass(frozen=True, eq=False)
class Regions:
    """Clusters of the real texts' embeddings: `centres` (regions, d), and the share of the real
    texts in each, `shares` (regions,)."""

    centres: np.ndarray
    shares: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, seed: int) -> "Regions | None":
        """Clusters the unit rows (texts, d) of the real texts by k-means; None of so few texts that
        there is one region only."""
        from sklearn.cluster import KMeans

        regions = len(rows) // A_REGION
        if regions < 2:
            return None
        means = KMeans(regions, n_init=4, random_state=seed % 2**32).fit(rows.astype(np.float64))
        places = np.bincount(means.labels_, minlength=regions)
        return cls(means.cluster_centers_, places / len(rows))

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Finds the region of each row, (texts,)."""
        nearness = rows.astype(np.float64) @ self.centres.T - (self.centres**2).sum(axis=1) / 2
        return np.asarray(nearness.argmax(axis=1))

    def factors(self, places: np.ndarray) -> np.ndarray:
        """Computes by what the chances of texts in each region are to be multiplied, (regions,),
        after texts were accepted in the regions `places` (texts,).

        It is the real texts' share over that of the accepted, shrunk towards 1 as by five texts
        more of either, and clipped; 1 everywhere while each region has as many texts as it could
        have by chance (95% of a binomial distribution).
        """
        accepted = np.bincount(places, minlength=len(self.shares))
        expected = self.shares * len(places)
        spread = np.sqrt(expected * (1 - self.shares))
        if (np.abs(accepted - expected) <= _SURE * spread).all():
            return np.ones(len(self.shares))
        return np.clip((expected + _PRIOR) / (accepted + _PRIOR), LEAST, MOST)

    def uneven(self, places: np.ndarray) -> float:
        """Computes the share of the texts in `places` that would have to be elsewhere for the real
        texts' shares: the total variation distance."""
        mine = np.bincount(places, minlength=len(self.shares)) / max(1, len(places))
        return float(np.abs(mine - self.shares).sum() / 2)

    def chance(self, n: int) -> float:
        """Computes what `uneven` is expected to be of `n` texts drawn with the real texts' shares,
        by the normal approximation."""
        spread = np.sqrt(self.shares * (1 - self.shares) / max(1, n))
        return float(spread.sum() * math.sqrt(2 / math.pi) / 2)

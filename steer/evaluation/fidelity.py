"""Fidelity: how close synthetic texts are to real ones, on unit embeddings (rows of shape (texts,
d))."""

import importlib
import importlib.util
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from steer.evaluation.estimate import Estimate, interval


def mean_cosines(synthetic: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean cosine of each synthetic text to all real ones, shape (synthetic texts,)."""
    return synthetic.astype(np.float64) @ real.mean(axis=0, dtype=np.float64)


def self_cosine(rows: np.ndarray, counts: np.ndarray) -> Estimate:
    """Mean cosine over pairs of different texts (by position) of one set.

    The interval resamples texts by `counts` (draws, n), leaving out pairs of a text with itself:
    resampling the n means of rows instead would make it half as wide as it is.
    """
    rows = rows.astype(np.float64)
    one = np.ones((1, len(rows)))
    return interval(_pair_cosines(rows, one)[0], _pair_cosines(rows, counts))


def _pair_cosines(rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
    own = np.einsum("nd,nd->n", rows, rows)
    squares = counts.astype(np.float64) ** 2
    all_pairs = np.square(counts @ rows).sum(axis=1)
    return (all_pairs - squares @ own) / (counts.sum(axis=1) ** 2 - squares.sum(axis=1))


def mauve_installed() -> bool:
    """Whether the optional library for MAUVE is installed."""
    return importlib.util.find_spec("mauve") is not None


def mauve_score(synthetic: np.ndarray, real: np.ndarray, seed: int) -> float:
    """MAUVE (Pillutla et al. 2021, arXiv 2102.01454) for one k-means seed, n / 10 clusters.

    In [0, 1], higher is closer. Varies by about 0.01 with the seed: average over several.
    """
    module: Any = importlib.import_module("mauve.compute_mauve")
    kmeans = module.faiss.Kmeans
    # Else faiss writes a warning to the terminal, past Python, at every call: clusters of 20
    # points are what MAUVE is defined with.
    module.faiss = SimpleNamespace(Kmeans=partial(kmeans, min_points_per_centroid=1))
    try:
        result = module.compute_mauve(p_features=synthetic, q_features=real, seed=seed)
    finally:
        module.faiss = SimpleNamespace(Kmeans=kmeans)
    return float(result.mauve)

"""Fidelity: how close synthetic texts are to real ones, on unit embeddings (rows of shape (texts,
d))."""

import importlib
import importlib.util
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np

from steer.evaluation.estimate import Estimate, interval

Adversary = Literal["trees", "logistic"]


class _Classifier(Protocol):
    def fit(self, features: np.ndarray, labels: np.ndarray) -> object: ...

    def predict_proba(self, features: np.ndarray) -> np.ndarray: ...


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


def adversarial_aurocs(
    synthetic: np.ndarray,
    real: np.ndarray,
    groups: Sequence[str],
    adversary: Adversary,
    folds: int,
    seed: int,
) -> list[float]:
    """AUROC of a classifier that tells synthetic from real, one a fold; 0.5 is best.

    `groups` names the text of every row, the synthetic rows first: rows of one group stay in one
    fold, or a repeated text would be recognised instead of told apart. A fold is left out when
    all texts of one side are in it or outside of it (heavily repeated texts): nothing to score.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    features = np.concatenate([synthetic, real])
    labels = np.repeat([1, 0], [len(synthetic), len(real)])
    folds = min(folds, len(set(groups[: len(synthetic)])), len(set(groups[len(synthetic) :])))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    scores = []
    for fit, test in splitter.split(features, labels, groups):
        if len(set(labels[fit])) == len(set(labels[test])) == 2:
            model = _classifier(adversary, seed)
            model.fit(features[fit], labels[fit])
            scores.append(roc_auc_score(labels[test], model.predict_proba(features[test])[:, 1]))
    return scores


def _classifier(adversary: Adversary, seed: int) -> _Classifier:
    """Makes a classifier: trees miss diffuse shifts and a linear model misses local ones, so both
    are used."""
    if adversary == "trees":
        from xgboost import XGBClassifier

        # The paper's settings but for coarser bins: as good, and half the time. One thread: more
        # are slower on so little data, and wait for each other on a busy machine.
        return XGBClassifier(max_bin=64, n_jobs=1, random_state=seed % 2**31)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)

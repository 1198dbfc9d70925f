"""Stacked, cross-fitted logistic regressions of two labelled samples: pure functions of arrays.

Every row is scored by models that were fitted without its fold, the choice of the regularisation
and the stacking included. With K folds that takes one model a pair of folds and one a fold: the
model without the folds f and g serves the rows of g in what is fitted for f, and the other way
round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from steer.correction.logistic import Line, fit_path

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of the L2 penalty tried for a family, the strongest penalty first."""

STACK_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""The same for the stacking; the strongest one leaves hardly any correction."""

Families = Mapping[str, Any]
"""Feature matrices by name, dense or sparse, (rows, features) each; a row that has no features of
a dense family holds NaN there."""


@dataclass(frozen=True)
class Stack:
    """One fold's models: a line for each family, and one over what these say."""

    lines: Mapping[str, Line]
    over: Line

    def __call__(self, families: Families) -> np.ndarray:
        """Computes the log ratio of each row, fp64 (rows,); NaN where a family has none."""
        return self.over(np.stack([line(families[name]) for name, line in self.lines.items()], 1))


def cross_fit(
    families: Families, real: np.ndarray, weights: np.ndarray, fold: np.ndarray
) -> list[Stack]:
    """Fits one stack a fold, on the rows of the other folds.

    `weights` (rows,) count the rows; each line estimates log p_real - log p_candidate, as the log
    of the two samples' weights is taken off. Regularisation is by held-out loss. A row whose
    features are NaN takes part in the families that it has, and not in the stacking.
    """
    folds = range(int(fold.max()) + 1)
    known = {name: _known(features) for name, features in families.items()}
    pairs = {
        (name, pair): _fit(
            families[name], real, weights, known[name] & ~np.isin(fold, pair), PENALTIES
        )
        for name in families
        for pair in combinations(folds, 2)
    }
    return [
        _stack(families, real, weights, fold, left_out, known, pairs)  # one a fold
        for left_out in folds
    ]


def held_out_scores(stacks: Sequence[Stack], families: Families, fold: np.ndarray) -> np.ndarray:
    """Scores each row by the stack that was fitted without its fold, (rows,); NaN where a family
    has no features for it."""
    scores = np.empty(len(fold))
    for number, stack in enumerate(stacks):
        rows = np.flatnonzero(fold == number)
        scores[rows] = stack({name: features[rows] for name, features in families.items()})
    return scores


def auroc(scores: np.ndarray, real: np.ndarray, fold: np.ndarray) -> float:
    """Area under the ROC curve, real rows being the positive ones: the mean over folds, as the
    scores of different folds come from different models."""
    from sklearn.metrics import roc_auc_score

    areas = []
    for number in np.unique(fold):
        rows = (fold == number) & np.isfinite(scores)
        if 0 < real[rows].sum() < rows.sum():
            areas.append(float(roc_auc_score(real[rows], scores[rows])))
    return float(np.mean(areas)) if areas else float("nan")


def _stack(
    families: Families,
    real: np.ndarray,
    weights: np.ndarray,
    fold: np.ndarray,
    left_out: int,
    known: Mapping[str, np.ndarray],
    pairs: Mapping[tuple[str, tuple[int, int]], list[Line]],
) -> Stack:
    """Fits the lines and the stacking of one fold, by its rows' absence."""
    train = fold != left_out
    said = np.full((len(fold), len(families)), np.nan)
    lines = {}
    for column, (name, features) in enumerate(families.items()):
        outs = np.full((len(fold), len(PENALTIES)), np.nan)
        for other in np.unique(fold[train]):
            pair = (min(left_out, int(other)), max(left_out, int(other)))
            rows = np.flatnonzero((fold == other) & known[name])
            outs[rows] = np.stack([line(features[rows]) for line in pairs[name, pair]], axis=1)
        best = _best(outs, real, weights, train & known[name])
        said[:, column] = outs[:, best]
        lines[name] = _fit(features, real, weights, train & known[name], PENALTIES[: best + 1])[-1]
    return Stack(lines, _over(said, real, weights, fold, train & np.isfinite(said).all(axis=1)))


def _over(
    said: np.ndarray, real: np.ndarray, weights: np.ndarray, fold: np.ndarray, rows: np.ndarray
) -> Line:
    """Fits the stacking on `rows`, which also calibrates; its penalty by what each fold loses."""
    outs = np.full((len(fold), len(STACK_PENALTIES)), np.nan)
    for other in np.unique(fold[rows]):
        path = _fit(said, real, weights, rows & (fold != other), STACK_PENALTIES)
        mine = rows & (fold == other)
        outs[mine] = np.stack([line(said[mine]) for line in path], axis=1)
    best = _best(outs, real, weights, rows)
    return _fit(said, real, weights, rows, STACK_PENALTIES[: best + 1])[-1]


def _fit(
    features: Any,
    real: np.ndarray,
    weights: np.ndarray,
    rows: np.ndarray,
    penalties: Sequence[float],
) -> list[Line]:
    """Fits one line a penalty on `rows`."""
    chosen = np.flatnonzero(rows)
    return fit_path(features[chosen], real[chosen], weights[chosen], penalties)


def _best(outs: np.ndarray, real: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> int:
    """Finds the column of log ratios that predicts `rows` best, both samples counting alike; of
    those that are hardly worse, the first, which is penalised most."""
    counts = np.where(real, weights / weights[rows & real].sum(), 0.0)
    counts += np.where(real, 0.0, weights / weights[rows & ~real].sum())
    signs = np.where(real, 1.0, -1.0)[rows, None]
    losses = (np.logaddexp(0.0, -signs * outs[rows]) * counts[rows, None]).sum(axis=0)
    return int(np.argmin(losses))


def _known(features: Any) -> np.ndarray:
    """Which rows have features, (rows,); all rows of a sparse matrix do."""
    if isinstance(features, np.ndarray):
        return np.asarray(np.isfinite(features).all(axis=1))
    return np.ones(features.shape[0], dtype=bool)

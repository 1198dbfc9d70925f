"""Detection: how well classifiers that read both can tell a set of texts from real ones.

Every text is scored by classifiers that did not see it: one for each view of the texts, and a stack
that weighs them by what they are worth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from steer.data.neardup import NearIndex
from steer.data.words import ngrams, words
from steer.evaluation.estimate import Draws, Estimate, Sampled

DETECTORS = ("words", "characters", "embedding", "trees", "likelihood")
STACK = "stack"
_SAME = 0.8
_LOGITS = 1e-6
_PENALTY = 1e-3
_TINY = 1e-12
_NORMAL = 1.96
_INSIDE = 1e-9

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Sides:
    """Texts of both sides, a set's first and as many real ones after them: `vectors` are their unit
    rows (texts, d), `readings` what a judge says of their tokens (texts, figures), if there is
    one."""

    texts: Sequence[str]
    vectors: np.ndarray
    readings: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """1 for the texts of the set, 0 for real ones, int (texts,)."""
        return np.repeat([1, 0], len(self.texts) // 2)


@dataclass(frozen=True, eq=False)
class _View:
    """Features of all texts (texts, figures) for one detector, and what makes its classifier."""

    name: str
    features: Any
    make: Callable[[], Any]

    def scores(self, labels: np.ndarray, fit: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Log-odds that the texts at `test` are the set's, (texts at `test`,), by a classifier of
        those at `fit`."""
        fitted = self.make().fit(self.features[fit], labels[fit])
        shares = fitted.predict_proba(self.features[test])[:, 1].astype(np.float64)
        shares = np.clip(shares, _LOGITS, 1 - _LOGITS)
        found: np.ndarray = np.log(shares / (1 - shares))
        return found


@dataclass(frozen=True, eq=False)
class Detection:
    """How a detector does: for each text of the set, the share of real ones in its fold that look
    more real, `own` (n,), and for each real text the share of the set that looks less real,
    `reference` (n,). Texts of a fold that could not be tested have NaN. `distinct` counts the
    groups of near duplicates of each side, which is how much evidence there is."""

    own: np.ndarray
    reference: np.ndarray
    distinct: tuple[int, int]

    @property
    def auroc(self) -> float:
        """Area under the ROC curve, a mean over folds: 0.5 where nothing can be told apart."""
        return float(np.nanmean(self.own))

    @property
    def estimate(self) -> Estimate:
        """The AUROC, with an interval that holds for few texts and near 1."""
        low, high = auroc_interval(self.auroc, *self.distinct)
        return Estimate(self.auroc, low, high)

    def sampled(self, draws: Draws) -> Sampled:
        """The AUROC and its bootstrap samples: the classifiers' errors of fitting are not in
        them."""
        value = self.auroc
        return draws.of(value, *(np.nan_to_num(v, nan=value) for v in (self.own, self.reference)))


def detect(sides: Sides, folds: int, seed: int) -> dict[str, Detection]:
    """Tests each of `DETECTORS`, and the stack of them; none when a side has too few different
    texts to hold some out.

    Near duplicates stay in one fold, else a repeated text would be recognised instead of told
    apart. Both sides have equally many texts.
    """
    groups = group(sides.texts)
    labels = sides.labels
    split = _folds(labels, groups, folds, seed)
    if not split:
        return {}
    views = _views(sides, seed)
    scores = {view.name: _cross_fit(view, labels, split) for view in views}
    scores[STACK] = _stack(np.stack(list(scores.values()), axis=1), views, labels, split)
    distinct = len(set(groups[labels == 1])), len(set(groups[labels == 0]))
    return {name: _tested(each, labels, split, distinct) for name, each in scores.items()}


def group(texts: Sequence[str]) -> np.ndarray:
    """Numbers the groups of near duplicates, int (texts,). Groups do not depend on the order of the
    texts as long as near duplicates of one text are near each other."""
    index, groups = NearIndex(_SAME), np.empty(len(texts), dtype=np.int64)
    for place in sorted(range(len(texts)), key=lambda place: texts[place]):
        found = index.find(texts[place])
        if found is None:
            index.add(str(place), texts[place])
        groups[place] = place if found is None else int(found)
    return groups


def auroc_interval(auroc: float, n: int, m: int) -> tuple[float, float]:
    """Interval of an AUROC from `n` and `m` texts: those values from which it is 1.96 standard
    errors away (Newcombe 2006, Statistics in Medicine 25:559, method 5). It is not empty at 1, and
    never leaves 0 to 1."""
    from scipy.optimize import brentq

    def beyond(other: float) -> float:
        return abs(other - auroc) - _NORMAL * _error(other, n, m)

    # At 0 and 1 the standard error is none, so the AUROC itself would be found there.
    inside = min(max(auroc, _INSIDE), 1 - _INSIDE)
    low = brentq(beyond, 0.0, inside) if auroc > _INSIDE else 0.0
    high = brentq(beyond, inside, 1.0) if auroc < 1 - _INSIDE else 1.0
    return float(low), float(high)


def _error(auroc: float, n: int, m: int) -> float:
    more = (n + m) / 2 - 1
    pairs = 1 + more * (1 - auroc) / (2 - auroc) + more * auroc / (1 + auroc)
    return sqrt(auroc * (1 - auroc) * pairs / (n * m))


def _folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[Fold]:
    """Places of the texts to fit on and to test, for each fold that has both sides in both."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(folds, *(len(set(groups[labels == side])) for side in (0, 1)))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    every = splitter.split(labels, labels, groups)
    return [(a, b) for a, b in every if len(set(labels[a])) == len(set(labels[b])) == 2]


def _views(sides: Sides, seed: int) -> list[_View]:
    """Features of each detector, and what makes its classifier. A linear model misses local shifts
    and trees miss diffuse ones; embeddings miss wording, and n-grams meaning."""
    from sklearn.linear_model import LogisticRegression

    def linear() -> Any:
        return LogisticRegression(C=10, solver="liblinear", random_state=seed % 2**32)

    by_word = {"analyzer": _word_grams}
    # Grams of one text alone only take time: no classifier can carry them to another fold.
    by_character = {"analyzer": "char", "ngram_range": (1, 5), "lowercase": False, "min_df": 2}
    found = [
        _View("words", _weighed(sides.texts, by_word), linear),
        _View("characters", _weighed(sides.texts, by_character), linear),
        _View("embedding", sides.vectors.astype(np.float64), linear),
        _View("trees", sides.vectors, lambda: _trees(seed)),
    ]
    if sides.readings is not None:
        found.append(_View("likelihood", _squared(sides.readings), linear))
    return found


def _weighed(texts: Sequence[str], grams: Mapping[str, Any]) -> Any:
    """Weighs the grams of each text, (texts, grams). Where there are none, as in punctuation alone
    there are no words, it is one feature that tells nothing."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(sublinear_tf=True, **grams).fit_transform(texts)
    except ValueError:  # an empty vocabulary
        return np.zeros((len(texts), 1))


def _word_grams(text: str) -> list[str]:
    said = words(text)
    return [*said, *(" ".join(pair) for pair in ngrams(said, 2))]


def _trees(seed: int) -> Any:
    """Makes boosted trees: shallow ones on a part of the coordinates, as there are more coordinates
    than texts. One thread: more are slower on so little data, and wait for each other on a busy
    machine."""
    from xgboost import XGBClassifier

    shape = {"n_estimators": 60, "max_depth": 3, "subsample": 0.8, "colsample_bytree": 0.3}
    return XGBClassifier(max_bin=64, n_jobs=1, random_state=seed % 2**31, **shape)


def _squared(readings: np.ndarray) -> np.ndarray:
    """Standardises readings and adds their squares, as both tails of a likelihood can tell."""
    known = np.nan_to_num(readings - np.nanmean(readings, axis=0))
    scaled = known / np.maximum(known.std(axis=0), _TINY)
    both: np.ndarray = np.concatenate([scaled, scaled**2], axis=1)
    return both


def _cross_fit(view: _View, labels: np.ndarray, split: Sequence[Fold]) -> np.ndarray:
    """Scores (texts,), higher for the set's, by a classifier that did not see the text; NaN for
    texts of no fold."""
    scores = np.full(len(labels), np.nan)
    for fit, test in split:
        scores[test] = view.scores(labels, fit, test)
    return scores


def _stack(
    scores: np.ndarray, views: Sequence[_View], labels: np.ndarray, split: Sequence[Fold]
) -> np.ndarray:
    """Weighs the detectors' scores (texts, detectors), each fold by weights from the others.

    The scores that weights are fitted on come from classifiers that saw neither their own fold nor
    the one to be tested: else a detector that does well on this one by chance would weigh more, and
    real texts would seem to be told apart (nested cross-fitting).
    """
    nested = _nested(views, labels, split)
    stacked = np.full(len(labels), np.nan)
    for place, (_, test) in enumerate(split):
        others = [rest for other, (_, rest) in enumerate(split) if other != place]
        known = np.concatenate([np.empty(0, dtype=np.int64), *others])
        known = known[~np.isnan(nested[place][known]).any(axis=1)]
        stacked[test] = scores[test] @ _weights(nested[place][known], labels[known])
    return stacked


def _nested(views: Sequence[_View], labels: np.ndarray, split: Sequence[Fold]) -> np.ndarray:
    """Scores (folds, texts, detectors) of each text by classifiers that saw neither its fold nor
    the one named first, a pair of folds at a time; NaN where too little is left to fit on."""
    scores = np.full((len(split), len(labels), len(views)), np.nan)
    for (one, (fit, mine)), (other, (_, theirs)) in combinations(enumerate(split), 2):
        left = np.setdiff1d(fit, theirs)
        if len(set(labels[left])) < 2:
            continue
        for place, view in enumerate(views):
            both = view.scores(labels, left, np.concatenate([mine, theirs]))
            scores[other, mine, place], scores[one, theirs, place] = np.split(both, [len(mine)])
    return scores


def _weights(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fits a logistic regression whose weights are not negative: a detector that does worse than
    chance on held-out texts, as happens where nothing can be told, must not count turned round."""
    from scipy.optimize import minimize

    if len(set(labels)) < 2:
        return np.ones(scores.shape[1])
    scale = np.maximum(scores.std(axis=0), _TINY)
    sides, scaled = 2 * labels - 1, (scores - scores.mean(axis=0)) / scale

    def loss(given: np.ndarray) -> tuple[float, np.ndarray]:
        weights, offset = given[:-1], given[-1]
        margins = sides * (scaled @ weights + offset)
        slopes = -sides / (1 + np.exp(np.minimum(margins, 500))) / len(sides)
        value = np.logaddexp(0, -margins).mean() + _PENALTY * (weights @ weights) / 2
        return value, np.append(scaled.T @ slopes + _PENALTY * weights, slopes.sum())

    count = scores.shape[1]
    bounds = [(0, None)] * count + [(None, None)]
    start = np.append(np.full(count, 1 / count), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: np.ndarray = found.x[:-1] / scale
    return weights


def _tested(
    scores: np.ndarray, labels: np.ndarray, split: Sequence[Fold], distinct: tuple[int, int]
) -> Detection:
    shares = np.full(len(labels), np.nan)
    for _, test in split:
        for side in (0, 1):
            mine, others = (test[labels[test] == each] for each in (side, 1 - side))
            apart = (scores[mine][:, None] - scores[others]) * (2 * side - 1)
            shares[mine] = ((apart > 0) + 0.5 * (apart == 0)).mean(axis=1)
    return Detection(shares[labels == 1], shares[labels == 0], distinct)

"""Detection: how well classifiers that read both can tell a set of texts from real ones.

Every text is scored by classifiers that did not see it: one for each view of the texts, and a stack
that weighs them by what they are worth (van der Laan et al. 2007, Super Learner), which is learnt
without the text as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from steer.data.folds import split_folds
from steer.data.words import fold, ngrams, words
from steer.evaluation.estimate import Draws, Estimate, Sampled
from steer.evaluation.grams import character_counts
from steer.seeds import derive

DETECTORS = ("words", "characters", "embedding", "trees", "likelihood")
STACK = "stack"
_GRAMS, _VECTORS = 1.0, 0.3  # ridge: strength of regularisation
_COMMON = 0.1
_PENALTY = 1e-3
_TINY = 1e-12
_NORMAL = 1.96
_INSIDE = 1e-9

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Fits a classifier on the texts at the first places, and scores those at the second: higher for
texts that look as if they were the set's."""


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

    @property
    def halves(self) -> tuple[Sequence[str], Sequence[str]]:
        """Texts of the set, and the real ones."""
        middle = len(self.texts) // 2
        return self.texts[:middle], self.texts[middle:]


@dataclass(frozen=True, eq=False)
class Detection:
    """How a detector does: for each text of the set, the share of real ones in its fold that look
    more real, `own` (n,), and for each real text the share of the set that looks less real,
    `reference` (n,). Texts of a fold that could not be tested have NaN. `distinct` counts the
    groups of near duplicates of each side, which is how much evidence there is; `folds` is how many
    times texts were held out."""

    own: np.ndarray
    reference: np.ndarray
    distinct: tuple[int, int]
    folds: int

    @property
    def auroc(self) -> float:
        """Area under the ROC curve, a mean over folds: 0.5 where nothing can be told apart."""
        return float(np.nanmean(self.own))

    @property
    def estimate(self) -> Estimate:
        """The AUROC, with an interval that holds for few texts and near 1."""
        low, high = auroc_interval(self.auroc, *(n / self._inflation for n in self.distinct))
        return Estimate(self.auroc, low, high)

    def sampled(self, draws: Draws) -> Sampled:
        """The AUROC and its bootstrap samples."""
        value = self.auroc
        shares = (np.nan_to_num(side, nan=value) for side in (self.own, self.reference))
        return draws.of(value, *(side * sqrt(self._inflation) for side in shares))

    @property
    def _inflation(self) -> float:
        """Factor of the variance, since other texts would have made other classifiers too: 1 + k
        times the texts tested over those fitted on, for k folds (Nadeau and Bengio 2003)."""
        return 1 + self.folds / (self.folds - 1)


def detect(sides: Sides, folds: int, seed: int) -> dict[str, Detection]:
    """Tests each of `DETECTORS`, and the stack of them; none when a side has too few different
    texts to hold some out.

    Near duplicates stay in one fold, else a repeated text would be recognised instead of told
    apart. Both sides have equally many texts.
    """
    labels = sides.labels
    different = [len(set(map(fold, side))) for side in sides.halves]
    wanted = min(folds, *different)
    if wanted < 2:
        return {}
    found = split_folds(sides.texts, labels == 0, wanted, derive(seed, "detectors"))
    every = (np.flatnonzero(found.placed == number) for number in range(wanted))
    split = [places for places in every if len(set(labels[places])) == 2]
    if len(split) < 2:
        return {}
    score = _scorers(sides, seed)
    held_out = {name: _held_out(each, labels, split) for name, each in score.items()}
    held_out[STACK] = _stack(list(score.values()), list(held_out.values()), labels, split)
    distinct = len(set(found.groups[labels == 1])), len(set(found.groups[labels == 0]))
    return {name: _tested(each, labels, split, distinct) for name, each in held_out.items()}


def auroc_interval(auroc: float, n: float, m: float) -> tuple[float, float]:
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


def _error(auroc: float, n: float, m: float) -> float:
    more = (n + m) / 2 - 1
    pairs = 1 + more * (1 - auroc) / (2 - auroc) + more * auroc / (1 + auroc)
    return sqrt(auroc * (1 - auroc) * pairs / (n * m))


def _scorers(sides: Sides, seed: int) -> dict[str, Score]:
    """Makes the detectors. A linear model misses local shifts and trees miss diffuse ones;
    embeddings miss wording, and n-grams meaning."""
    labels = sides.labels
    # N-grams of one text alone only take time: no classifier can carry them to another fold.
    by_character = character_counts(sides.texts, longest=5, least=2)
    centred = sides.vectors.astype(np.float64) - sides.vectors.mean(axis=0)
    found = {
        "words": _linear(_products(_word_counts(sides.texts)), labels, _GRAMS),
        "characters": _linear(_products(by_character), labels, _GRAMS),
        "embedding": _linear(centred @ centred.T, labels, _VECTORS),
        "trees": _trees(sides.vectors, labels, seed),
    }
    if sides.readings is not None:
        read = _squared(sides.readings)
        found["likelihood"] = _linear(read @ read.T / read.shape[1], labels, _GRAMS)
    return found


def _products(counts: Any) -> np.ndarray:
    """Products of the texts' tf-idf rows, (texts, texts), from their n-grams' `counts` (texts,
    n-grams); 0 for texts that have none."""
    from sklearn.feature_extraction.text import TfidfTransformer

    if not counts.shape[1]:
        return np.zeros((counts.shape[0], counts.shape[0]))
    features = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    # N-grams that many texts have take nearly all the time of a sparse product.
    common = features.getnnz(axis=0) > features.shape[0] * _COMMON
    dense, rare = features[:, common].toarray(), features[:, ~common]
    products: np.ndarray = dense @ dense.T + (rare @ rare.T).toarray()
    return products


def _word_counts(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    try:
        return CountVectorizer(analyzer=_word_grams).fit_transform(texts)
    except ValueError:  # no text has a word
        return np.zeros((len(texts), 0))


def _word_grams(text: str) -> list[str]:
    said = words(text)
    return [*said, *(" ".join(pair) for pair in ngrams(said, 2))]


def _linear(products: np.ndarray, labels: np.ndarray, strength: float) -> Score:
    """Makes a linear classifier, ridge regression on the sides by the texts' `products` (texts,
    texts): quicker than logistic regression, as the products are computed once for all fits."""
    from scipy.linalg import solve

    targets = 2.0 * labels - 1
    products = products.astype(np.float32)  # in half the time, and regularised well enough

    def score(fit: np.ndarray, test: np.ndarray) -> np.ndarray:
        wanted = (targets[fit] - targets[fit].mean()).astype(np.float32)
        kernel = products[np.ix_(fit, fit)]
        kernel[np.diag_indices_from(kernel)] += strength
        found = products[np.ix_(test, fit)] @ solve(kernel, wanted, assume_a="pos")
        return np.asarray(found, dtype=np.float64)

    return score


def _trees(vectors: np.ndarray, labels: np.ndarray, seed: int) -> Score:
    """Makes boosted trees: shallow ones on a part of the coordinates, as there are more coordinates
    than texts. One thread: more are slower on so little data, and wait for each other on a busy
    machine."""
    from xgboost import XGBClassifier

    shape = {"n_estimators": 40, "max_depth": 3, "subsample": 0.8, "colsample_bytree": 0.3}

    def score(fit: np.ndarray, test: np.ndarray) -> np.ndarray:
        model = XGBClassifier(max_bin=64, n_jobs=1, random_state=seed % 2**31, **shape)
        model.fit(vectors[fit], labels[fit])
        found: np.ndarray = model.predict(vectors[test], output_margin=True).astype(np.float64)
        return found

    return score


def _squared(readings: np.ndarray) -> np.ndarray:
    """Standardises readings and adds their squares, as both tails of a likelihood can tell."""
    known = np.nan_to_num(readings - np.nanmean(readings, axis=0))
    scaled = known / np.maximum(known.std(axis=0), _TINY)
    both: np.ndarray = np.concatenate([scaled, scaled**2 - 1], axis=1)
    return both


def _held_out(score: Score, labels: np.ndarray, split: Sequence[np.ndarray]) -> np.ndarray:
    """Scores of all texts, each by a classifier that did not see its fold, (texts,)."""
    found = np.full(len(labels), np.nan)
    for test in split:
        found[test] = score(_others(split, test), test)
    return found


def _stack(
    score: Sequence[Score],
    held_out: Sequence[np.ndarray],
    labels: np.ndarray,
    split: Sequence[np.ndarray],
) -> np.ndarray:
    """Weighs the detectors' `held_out` scores, each fold's by weights that are learnt without it:
    on scores of the other folds by classifiers that saw neither. Were they to see the fold, weights
    would find what is told by chance, and real texts could be told from real ones."""
    single = len(split) < 3
    beside = {} if single else _beside(score, split)
    stacked = np.full(len(labels), np.nan)
    scores = np.stack(held_out, axis=1)
    for i, test in enumerate(split):
        if single:
            weights = 1 / np.maximum(scores[test].std(axis=0), _TINY)
        else:
            others = [j for j in range(len(split)) if j != i]
            known = np.concatenate([beside[j, i] for j in others])
            weights = _weights(known, labels[np.concatenate([split[j] for j in others])])
        stacked[test] = scores[test] @ weights
    return stacked


def _beside(
    score: Sequence[Score], split: Sequence[np.ndarray]
) -> dict[tuple[int, int], np.ndarray]:
    """Scores of fold i, (texts, detectors), by classifiers that saw neither it nor fold j, for each
    pair i, j."""
    found = {}
    for i, j in combinations(range(len(split)), 2):
        fit = _others(split, split[i], split[j])
        both = np.concatenate([split[i], split[j]])
        scores = np.stack([each(fit, both) for each in score], axis=1)
        found[i, j], found[j, i] = np.split(scores, [len(split[i])])
    return found


def _others(split: Sequence[np.ndarray], *left_out: np.ndarray) -> np.ndarray:
    return np.concatenate([fold for fold in split if not any(fold is each for each in left_out)])


def _weights(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fits a logistic regression whose weights are not negative: a detector that does worse than
    chance on held-out texts, as happens where nothing can be told, must not count turned round."""
    from scipy.optimize import minimize

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
    scores: np.ndarray,
    labels: np.ndarray,
    split: Sequence[np.ndarray],
    distinct: tuple[int, int],
) -> Detection:
    shares = np.full(len(labels), np.nan)
    for test in split:
        for side in (0, 1):
            mine, others = (test[labels[test] == each] for each in (side, 1 - side))
            apart = (scores[mine][:, None] - scores[others]) * (2 * side - 1)
            shares[mine] = ((apart > 0) + 0.5 * (apart == 0)).mean(axis=1)
    return Detection(shares[labels == 1], shares[labels == 0], distinct, len(split))

"""Utility, what synthetic texts are good for: train on them, test on real ones (Esteban et al.
2017, arXiv 1706.02633)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from steer.data.questions import LETTERS, Question
from steer.evaluation import network
from steer.evaluation.sets import Labelled, draw
from steer.seeds import derive

REPEATS = 5
SHARE = 0.8
NETWORKS = 3
REAL_ROWS = 100


@dataclass(frozen=True)
class Examples:
    """Features and answers of texts: `features` (texts, d) for one answer each, or (questions,
    options, d); `answers` are the label of each text, or which option is right."""

    features: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.answers)

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.answers, other.answers]),
        )

    def pick(self, indices: np.ndarray) -> "Examples":
        return Examples(self.features[indices], self.answers[indices])


def label_scores(train: Examples, test: Examples, seed: int) -> list[float]:
    """Balanced accuracies on `test` of logistic regression fitted on `train`, one for each of
    `REPEATS` random shares of `train`; none when a share has only one label.

    Labels weigh the same however many texts have them: the balance of labels is the user's to
    choose, and no merit of the texts.
    """
    from sklearn.linear_model import LogisticRegression

    scores = []
    for part in _shares(train, seed):
        if len(set(part.answers)) < 2:
            return []
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(part.features, part.answers)
        scores.append(_balanced(test.answers, model.predict(test.features)))
    return scores


def network_scores(train: Labelled, test: Labelled, seed: int) -> list[float]:
    """Balanced accuracies on `test` of small networks trained on the texts of `train`, which must
    both have labels: one for each of `NETWORKS` beginnings and orders, drawn from `seed`; none when
    `train` has only one label.

    Unlike `label_scores` it learns its own features, and needs no embedder.
    """
    names, numbers = np.unique(np.array(train.labels), return_inverse=True)
    if len(names) < 2:
        return []
    truth, scores = np.array(test.labels), []
    for repeat in range(NETWORKS):
        trained = network.train(train.texts, numbers, derive(seed, "network", repeat))
        scores.append(_balanced(truth, names[trained.predict(test.texts)]))
    return scores


def beside_real(synthetic: Labelled, real: Labelled, seed: int) -> Labelled:
    """Joins `synthetic` with `REAL_ROWS` of `real`, or all where there are no more; the same rows
    for every set."""
    some = draw(real, REAL_ROWS, seed, "beside")
    labels = [*(some.labels or ()), *(synthetic.labels or ())]
    return Labelled([*some.texts, *synthetic.texts], labels)


def _balanced(truth: np.ndarray, said: np.ndarray) -> float:
    """Balanced accuracy: the mean over labels of the share of their texts that are named right."""
    return float(np.mean([(said[truth == y] == y).mean() for y in set(truth)]))


def answer_scores(train: Examples, test: Examples, seed: int) -> list[float]:
    """Shares of `test` questions whose right option gets the highest score, one for each of
    `REPEATS` random shares of `train`. Logistic regression is fitted to tell right from wrong
    options. Chance is one over the options."""
    from sklearn.linear_model import LogisticRegression

    scores = []
    for part in _shares(train, seed):
        right = np.arange(part.features.shape[1]) == part.answers[:, None]
        # Strong regularisation, and no intercept since features are differences within a question:
        # far fewer questions than coordinates.
        model = LogisticRegression(C=0.01, fit_intercept=False, max_iter=1000)
        model.fit(part.features.reshape(-1, part.features.shape[2]), right.ravel())
        picked = (test.features @ model.coef_[0]).argmax(axis=1)
        scores.append(float((picked == test.answers).mean()))
    return scores


def question_examples(
    questions: Sequence[Question], vectors: Callable[[Sequence[str]], np.ndarray]
) -> Examples:
    """Questions with equally many options as features of (question, option) pairs, shape
    (questions, options, d): the products of the coordinates of their embeddings, which `vectors`
    gives, less their mean over the question's options. Their sum orders options by cosine."""
    asked = vectors([each.question for each in questions])[:, None]
    options = vectors([option for each in questions for option in each.options])
    options = options.reshape(len(questions), len(LETTERS), options.shape[1])
    features = asked * options * np.sqrt(options.shape[2])
    answers = np.array([LETTERS.index(each.answer) for each in questions], dtype=np.int64)
    return Examples(features - features.mean(axis=1, keepdims=True), answers)


def _shares(train: Examples, seed: int) -> list[Examples]:
    draw = np.random.default_rng(seed)
    size = max(1, round(SHARE * len(train)))
    return [train.pick(draw.permutation(len(train))[:size]) for _ in range(REPEATS)]

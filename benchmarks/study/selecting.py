"""Selectors of the study: which candidates a user would keep.

`choose` gives the indices of the kept ones; all selectors keep as many of the same candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from steer.runs.records import Record
from steer.seeds import derive

FOLDS = 5


@dataclass(frozen=True)
class Task:
    """What a selector is given: `real` texts, `candidates`, and how many to keep."""

    real: Sequence[str]
    candidates: Sequence[Record]
    n: int
    seed: int

    def draw(self, what: str) -> np.random.Generator:
        """Makes a generator for one use."""
        return np.random.default_rng(derive(self.seed, what))


def random(task: Task) -> np.ndarray:
    """Keeps candidates at random, as if no more had been made."""
    return task.draw("random").choice(len(task.candidates), task.n, replace=False)


def likeliest(task: Task) -> np.ndarray:
    """Keeps the candidates that are likeliest under what wrote them, in nats a token."""
    return np.argsort([-_log_prob(each) for each in task.candidates], kind="stable")[: task.n]


def _log_prob(record: Record) -> float:
    """Log-probability under the expert; under the base model after its panel for few-shot."""
    found = record.log_probs["expert"]
    found = record.log_probs["positive"] if found is None else found
    return -np.inf if found is None else found


def corrected(task: Task) -> np.ndarray:
    """Keeps candidates at random, in proportion to how much likelier they are as real texts than as
    candidates, as cross-fitted logistic regression on word 1-2-grams estimates it (Azadi et al.
    2018, arXiv 1810.06758)."""
    texts = [*task.real, *(each.text for each in task.candidates)]
    labels = np.arange(len(texts)) < len(task.real)
    scores = _held_out(texts, labels, task.seed)[len(task.real) :]
    weights = np.exp(scores - scores.max())
    keys = task.draw("corrected").exponential(size=len(weights)) / np.maximum(weights, 1e-12)
    return np.argsort(keys)[: task.n]  # without replacement (Efraimidis and Spirakis 2006)


def _held_out(texts: Sequence[str], labels: np.ndarray, seed: int) -> np.ndarray:
    """Computes the log-odds of each text by a model that did not read it, (texts,)."""
    rows = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2).fit_transform(texts)
    scores = np.empty(len(texts))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(rows, labels):
        model = LogisticRegressionCV(
            Cs=np.logspace(-2, 2, 5),
            l1_ratios=(0,),
            scoring="neg_log_loss",
            class_weight="balanced",  # a ratio of densities does not depend on how many there are
            max_iter=300,
            use_legacy_attributes=False,
        )
        scores[test] = model.fit(rows[train], labels[train]).decision_function(rows[test])
    return scores


SELECTORS: Mapping[str, Callable[[Task], np.ndarray]] = {
    "one in three at random": random,
    "the likeliest third": likeliest,
    "corrected": corrected,
}

"""Selectors of the study: which candidates a user would keep.

`choose` gives the indices of the kept ones; all selectors keep as many of the same candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steer.correction.acceptance import accept
from steer.correction.selector import Selector
from steer.runs.records import Record
from steer.seeds import derive


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
    """Keeps candidates as `steer generate --candidates` does (docs/correction.md)."""
    texts = [each.text for each in task.candidates]
    selector = Selector.fit(task.real, texts, seed=task.seed)
    accepted = accept(
        selector.candidate_scores, task.n, [each.id for each in task.candidates], task.seed
    )
    return np.array(accepted.rows)


SELECTORS: Mapping[str, Callable[[Task], np.ndarray]] = {
    "as used": random,
    "the likeliest third": likeliest,
    "corrected": corrected,
}
RANDOM, LIKELIEST, CORRECTED = SELECTORS


def taken(task: Task, selector: str) -> list[str]:
    """Gives the texts that the selector of that name keeps."""
    return [task.candidates[row].text for row in SELECTORS[selector](task)]

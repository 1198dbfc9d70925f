"""Texts of which the distribution is known: bags of words, each drawn from a Dirichlet-multinomial,
and what a selector reads of them."""

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

WORDS = 60
LENGTH = 14
REAL = np.full(WORDS, 0.5)
OTHER = np.where(np.arange(WORDS) < 20, 0.75, 0.375)
"""Concentrations: the others use a third of the words twice as much as the rest."""


def texts(concentration: np.ndarray, count: int, seed: int) -> list[str]:
    """Draws texts of `LENGTH` words."""
    rng = np.random.default_rng(seed)
    draws = (rng.choice(WORDS, LENGTH, p=rng.dirichlet(concentration)) for _ in range(count))
    return [" ".join(f"w{word}" for word in words) for words in draws]


def log_ratio(some: Sequence[str]) -> np.ndarray:
    """The true log p_real - log p_other of each text, (texts,)."""
    counts = np.zeros((len(some), WORDS))
    for row, text in enumerate(some):
        for word in text.split():
            counts[row, int(word[1:])] += 1
    return _log_p(counts, REAL) - _log_p(counts, OTHER)


def _log_p(counts: np.ndarray, concentration: np.ndarray) -> np.ndarray:
    """Log probability of a Dirichlet-multinomial, up to a constant of the counts."""
    total = concentration.sum()
    ends = gammaln(total) - gammaln(total + counts.sum(axis=1))
    return ends + (gammaln(counts + concentration) - gammaln(concentration)).sum(axis=1)


class GroupEmbedder:
    """An embedder that tells how often a text uses each of some groups of five words."""

    name = "groups"

    def __init__(self, groups: int = 12) -> None:
        self._groups = groups

    def embed(self, some: Sequence[str]) -> np.ndarray:
        """Unit rows, (texts, groups)."""
        rows = np.full((len(some), self._groups), 0.1)
        for row, text in enumerate(some):
            for word in text.split():
                rows[row, int(word[1:]) // 5] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

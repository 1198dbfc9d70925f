"""Selectors of a run: one for each label that has enough texts, one for the other labels
together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steer.correction.features import Embeds
from steer.correction.selector import By, Sample, Selector, enough

Selectors = dict[str | None, Selector]


@dataclass(frozen=True)
class Pile:
    """Texts with a label each (None is no label) and their unit rows (texts, d)."""

    texts: Sequence[str]
    labels: Sequence[str | None]
    rows: np.ndarray

    def of(self, labels: set[str | None]) -> "Pile":
        """Gives the texts that have one of the labels."""
        kept = [row for row, label in enumerate(self.labels) if label in labels]
        texts = [self.texts[row] for row in kept]
        return Pile(texts, [self.labels[row] for row in kept], self.rows[kept])

    def enough(self, by: By) -> bool:
        """Whether a selector can be fitted on them."""
        return enough(self.texts, by)


def fit_selectors(
    real: Pile, candidates: Pile, embedder: Embeds, seed: int, by: By = "text"
) -> Selectors:
    """Fits a selector for each label of the candidates, as far as there are enough of both kinds.

    Labels that have too few share one, fitted on all labels that both kinds have. In it the real
    texts are weighted so that each label counts as much as among the candidates: it does not learn
    how the labels are mixed.
    """
    found: Selectors = {}
    for label in sorted(set(candidates.labels), key=str):
        mine, theirs = real.of({label}), candidates.of({label})
        if mine.enough(by) and theirs.enough(by):
            found[label] = _fit(mine, theirs, embedder, seed, by)
    shared = set(real.labels) & set(candidates.labels)
    both = real.of(shared), candidates.of(shared)
    if shared - set(found) and both[0].enough(by) and both[1].enough(by):
        together = _fit(*both, embedder, seed, by)
        found = dict.fromkeys(shared, together) | found
    return found


def _fit(real: Pile, candidates: Pile, embedder: Embeds, seed: int, by: By) -> Selector:
    wanted, held = Counter(candidates.labels), Counter(real.labels)
    weights = np.array([wanted[label] / held[label] for label in real.labels])
    weights *= len(weights) / weights.sum()
    return Selector.fit(
        Sample(real.texts, real.rows, weights=weights),
        Sample(candidates.texts, candidates.rows),
        embedder=embedder,
        seed=seed,
        by=by,
    )

"""What a judge says of texts: how likely their tokens are to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

RARE = math.log(1 / 1000)
"""Log-probability below which a token counts as rare, in nats. A probability means the same for
every vocabulary, and no text is needed to set it."""


@dataclass(frozen=True, eq=False)
class Readings:
    """How likely each text is to a judge, token by token: fp64 arrays (texts,).

    `tokens` is the number of tokens that were read; `mean`, `sd` (of these tokens, not of others
    like them: 0 for a single one) and `minimum` are of their log-probabilities, in nats; `rare` is
    the share of them below `RARE`. A text without any token has 0 tokens, and else NaN.
    """

    tokens: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    minimum: np.ndarray
    rare: np.ndarray

    def pick(self, places: Sequence[int]) -> "Readings":
        """Picks the readings at `places`, in that order."""
        return Readings(*(getattr(self, each.name)[list(places)] for each in fields(self)))

    @property
    def table(self) -> np.ndarray:
        """All of them side by side, (texts, 5)."""
        return np.stack([getattr(self, each.name) for each in fields(self)], axis=1)


def figures(log_probs: np.ndarray) -> tuple[float, ...]:
    """Figures of one text for `Readings`, in its order, from its tokens' log-probabilities."""
    if not len(log_probs):
        return 0, math.nan, math.nan, math.nan, math.nan
    rare = (log_probs < RARE).mean()
    return len(log_probs), log_probs.mean(), log_probs.std(), log_probs.min(), rare


def gather(log_probs: Sequence[np.ndarray]) -> Readings:
    """Makes readings of the log-probabilities of each text's tokens."""
    return Readings(*np.array([figures(each) for each in log_probs], dtype=np.float64).T)

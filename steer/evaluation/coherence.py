"""Coherence: how likely a set of texts is to a judge (`steer.models.judge`), beside real ones."""

import numpy as np

from steer.evaluation.estimate import Estimate, interval


def gap(scores: np.ndarray, reference: np.ndarray, counts: np.ndarray) -> Estimate:
    """Mean log-likelihood of a set less that of the `reference` texts; 0 is as likely as real.

    Both are resampled by `counts` (draws, n), independently: the reference by the draws from the
    last to the first.
    """
    samples = (counts @ scores - counts[::-1] @ reference) / len(scores)
    return interval(scores.mean() - reference.mean(), samples)

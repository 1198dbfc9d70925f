"""Coherence: how likely a set of texts is to a judge (`steer.models.judge`), beside real ones."""

import numpy as np

from steer.evaluation.estimate import Draws, Sampled, shares_below

TAIL = 0.05
"""Share of the real texts that read worse than the others: what falls below is called nonsense."""
_HALVES = 50


def gap(scores: np.ndarray, reference: np.ndarray, draws: Draws) -> Sampled:
    """Mean log-likelihood of a set less that of the `reference` texts; 0 is as likely as real. A
    mean alone hides much: noise and sharpening cancel in it."""
    return draws.of(float(scores.mean() - reference.mean()), scores, -reference)


def nonsense(scores: np.ndarray, reference: np.ndarray, draws: Draws) -> tuple[Sampled, float]:
    """Share of texts less likely than 95% of the `reference` texts, and that of these texts
    themselves, near 0.05."""
    return shares_below(scores, reference, TAIL, draws)


def distance(scores: np.ndarray, reference: np.ndarray, draws: Draws) -> Sampled:
    """Wasserstein distance between the likelihoods of two sets, in nats a token: what has to be
    moved, and how far, to make one distribution of the other. It sees texts that are too likely as
    well as those that are not likely enough. Texts whose score is NaN do not count."""
    grid = np.sort(np.concatenate([_known(scores), _known(reference)]))
    steps = np.diff(grid)
    apart = _shares(scores, grid[:-1]) - _shares(reference, grid[:-1])
    # One text more lifts the curve of its set from the text's own score on: by how much that moves
    # the area between the two curves.
    lifted = np.append((np.sign(apart) * steps)[::-1].cumsum()[::-1], 0.0)
    own, other = (_influence(each, grid, lifted) for each in (scores, reference))
    return draws.of(float(np.abs(apart) @ steps), own, -other)


def _known(scores: np.ndarray) -> np.ndarray:
    """Leaves out what is NaN."""
    return scores[~np.isnan(scores)]


def _influence(scores: np.ndarray, grid: np.ndarray, lifted: np.ndarray) -> np.ndarray:
    """Influence of each text, (texts,): none of those without a score, so more of the others."""
    there = ~np.isnan(scores)
    found, moved = np.zeros(len(scores)), lifted[np.searchsorted(grid, scores[there])]
    found[there] = (moved - moved.mean()) * len(scores) / there.sum()
    return found


def floor(reference: np.ndarray, seed: int) -> float:
    """Distance that two sets of real texts of this size have by chance: the mean over random
    halves of the `reference` texts, less by the square root of two for twice as many texts."""
    draw = np.random.default_rng(seed)
    half = len(reference) // 2
    found = []
    for _ in range(_HALVES):
        mixed = draw.permutation(reference)
        one, other = np.sort(mixed[:half]), np.sort(mixed[half : 2 * half])
        found.append(np.abs(one - other).mean())
    return float(np.mean(found) / np.sqrt(2))


def _shares(scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Share of the scores at or below each of the grid's points, (points,)."""
    there = np.sort(_known(scores))
    return np.searchsorted(there, grid, side="right") / len(there)

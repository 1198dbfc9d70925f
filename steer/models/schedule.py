"""Schedule of a fit: how many steps, which texts in each, and how far each goes."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from steer.seeds import derive

_WARM = 0.03  # share of the steps in which the learning rate rises
_SORTED = 50  # steps whose texts are sorted by length together, for little padding
_TEXTS, _MOST = 400, 4
_MANY, _SMALL, _LARGE = 1000, 4, 8
_RATE, _WIDTH, _POWER, _HIGHEST = 1.4e-3, 576, 0.781, 2e-3
_AGAIN = 0.75  # the rate falls with the number of epochs to this power


def default_epochs(texts: int) -> int:
    """Number of epochs for so many texts to train on: one, and more where that would be few steps
    (docs/fitting.md has the losses)."""
    return min(_MOST, math.ceil(_TEXTS / texts))


def default_batch(texts: int) -> int:
    """Number of texts in a step, with so many to train on: fewer where there would be few steps
    (docs/fitting.md has the losses)."""
    return _SMALL if texts < _MANY else _LARGE


def default_rate(width: int, epochs: int) -> float:
    """Learning rate of LoRA for a model with states of `width` numbers: what was found at a width
    of 576, falling with it as in *LoRA Without Regret* (Schulman et al., 2025) for models like
    Llama; and falling with the number of `epochs`, as texts that are read again are sooner known
    by heart (docs/fitting.md)."""
    return min(_HIGHEST, _RATE * (_WIDTH / width) ** _POWER) / epochs**_AGAIN


@dataclass(frozen=True)
class Schedule:
    """Steps of `batch` texts each, over all texts in every epoch. Everything follows from the
    settings, so a fit that was stopped goes on as if it had not been."""

    lengths: Sequence[int]
    batch: int
    epochs: int
    lr: float
    seed: int

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return math.ceil(len(self.lengths) / self.batch)

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.epoch_steps

    def batches(self, epoch: int) -> list[list[int]]:
        """Draws the rows of each step of an epoch. Those of a step are about equally long."""
        draw = random.Random(derive(self.seed, "order", epoch))
        rows = draw.sample(range(len(self.lengths)), len(self.lengths))
        together = _SORTED * self.batch
        parts = [rows[start : start + together] for start in range(0, len(rows), together)]
        rows = [row for part in parts for row in sorted(part, key=lambda row: -self.lengths[row])]
        found = [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        draw.shuffle(found)
        return found

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0: it rises for a short while, then falls to 0."""
        warm = math.ceil(_WARM * self.steps)
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        return self.lr * (self.steps - step) / (self.steps - warm)

"""Sets of texts as they are given, checked, cut to size and drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from steer.errors import SteerError
from steer.seeds import derive


@dataclass(frozen=True)
class Labelled:
    """Texts, and one label each or none at all. Raises SteerError when there are not as many
    labels as texts."""

    texts: Sequence[str]
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise SteerError(
                f"there are {len(self.texts)} texts but {len(self.labels)} labels: "
                "give each text one, or none at all"
            )

    def pick(self, indices: Sequence[int]) -> "Labelled":
        """Picks the texts at `indices`, in that order, with their labels."""
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return Labelled([self.texts[i] for i in indices], labels)

    def ordered(self) -> "Labelled":
        """Sorts the texts, so that a draw does not depend on the order they came in."""
        labels = self.labels or [""] * len(self.texts)
        return self.pick(sorted(range(len(labels)), key=lambda i: (self.texts[i], labels[i])))


class HasTexts(Protocol):
    """A corpus, a run, or another object with texts, and one label each or none at all."""

    @property
    def texts(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Sequence[str] | None: ...


Texts = Sequence[str] | HasTexts


def as_labelled(texts: Texts) -> Labelled:
    """Turns a list, a corpus or a run into texts with their labels, if it has any."""
    if isinstance(texts, Sequence):
        return Labelled(texts)
    return Labelled(texts.texts, texts.labels)


def check(name: str, given: Labelled) -> None:
    """Raises SteerError for a set that is empty or has an empty text."""
    if not given.texts:
        raise SteerError(f"'{name}' has no texts: leave it out or give it some")
    for number, text in enumerate(given.texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise SteerError(
                f"text {number} of '{name}' is {text!r}: every text must have words; remove it"
            )


def check_labels(sets: Mapping[str, Labelled], why: str) -> None:
    """Raises SteerError for a set without labels."""
    for name, given in sets.items():
        if given.labels is None:
            raise SteerError(f"'{name}' has no labels, which {why}: give them, or leave that out")


def draw(given: Labelled, n: int, seed: int, what: str) -> Labelled:
    """Draws `n` of the texts, which depend on the texts but not on their order."""
    order = np.random.default_rng(derive(seed, "draw", what)).permutation(len(given.texts))
    return given.ordered().pick(order[:n].tolist())


def without(train: list[str], held_out: Sequence[str]) -> tuple[list[str], int]:
    """Removes from `train` the `held_out` texts that are its own; gives also their number.

    Real texts that were drawn from the training file are no copies of themselves. A small
    overlap, though, is real texts repeating each other, and belongs into the ceiling.
    """
    rest = Counter(train) - Counter(held_out)
    overlap = len(train) - rest.total()
    if 2 * overlap <= len(held_out) or not rest:
        return train, 0
    return list(rest.elements()), overlap

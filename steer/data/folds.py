"""Folds for cross-fitting: texts that are nearly equal stay together, or a classifier would know
again what it was fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steer.data.neardup import NearIndex
from steer.data.words import fold
from steer.seeds import derive


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold of each text, `placed` (texts,), its group of near duplicates, `groups` (texts,),
    and the `index` of the texts by their folded form."""

    placed: np.ndarray
    groups: np.ndarray
    index: NearIndex


def split_folds(
    texts: Sequence[str], real: np.ndarray, folds: int, seed: int, least: int = 1
) -> Folds:
    """Assigns equal and nearly equal texts to one fold, directly or through others; `real` (texts,)
    says of which kind each is.

    Where so many hang together that a fold would have fewer than `least` of one kind, only equal
    texts are kept together: such texts are all variants of a few.
    """
    index, owner = NearIndex(), _Owner(len(texts))
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        plain = fold(text)
        if plain in first:
            owner.join(row, first[plain])
            continue
        first[plain] = row
        index.add(plain, text)
    equal = owner.groups()
    for row in first.values():
        for key in index.find_all(texts[row]):
            owner.join(row, first[key])
    for groups in (owner.groups(), equal):
        groups.sort(key=lambda rows: derive(seed, "fold", texts[rows[0]]))
        placed = assign_folds(groups, real, folds)
        if _mixed(placed, real, folds, least):
            break
    numbers = np.empty(len(texts), dtype=int)
    for number, rows in enumerate(groups):
        numbers[rows] = number
    return Folds(placed, numbers, index)


def assign_folds(groups: Sequence[Sequence[int]], real: np.ndarray, folds: int) -> np.ndarray:
    """Assigns each row to a fold, (rows,): rows of one group stay together, and both kinds are
    spread evenly. `real` (rows,) says which rows are real. The order of the groups decides."""
    sizes = np.array([max(1, real.sum()), max(1, (~real).sum())])
    loads = np.zeros((folds, 2))
    placed = np.empty(len(real), dtype=int)
    for group in groups:
        rows = list(group)
        share = np.array([real[rows].sum(), (~real[rows]).sum()]) / sizes
        chosen = int(np.argmin(loads @ (share > 0)))
        loads[chosen] += share
        placed[rows] = chosen
    return placed


def _mixed(placed: np.ndarray, real: np.ndarray, folds: int, least: int) -> bool:
    """Whether every fold has at least so many rows of both kinds."""
    counts = (np.bincount(placed[kind], minlength=folds) for kind in (real, ~real))
    return all((count >= least).all() for count in counts)


class _Owner:
    """Groups of rows that are joined two at a time."""

    def __init__(self, rows: int) -> None:
        self._up = list(range(rows))

    def join(self, one: int, other: int) -> None:
        """Puts the groups of two rows together."""
        self._up[self._root(one)] = self._root(other)

    def groups(self) -> list[list[int]]:
        """Lists the rows of each group, in order."""
        members: dict[int, list[int]] = {}
        for row in range(len(self._up)):
            members.setdefault(self._root(row), []).append(row)
        return list(members.values())

    def _root(self, row: int) -> int:
        while self._up[row] != row:
            self._up[row] = self._up[self._up[row]]
            row = self._up[row]
        return row

"""Selection of a panel's examples from the pool, by their embeddings."""

import random

import numpy as np

NEIGHBOURS = 10
CROWDED_SHARE = 10  # one in so many texts counts as lying in a crowd
CROWD = 2000  # texts looked at: all pairs of them are compared


def crowded(rows: np.ndarray, size: int, draw: random.Random) -> list[int]:
    """Picks a text drawn from those that lie closest to their neighbours, and the texts nearest to
    it.

    `rows` are unit embeddings (texts, d); returns `size` different row numbers. Of more than
    `CROWD` texts, so many drawn ones are compared.
    """
    some = sorted(draw.sample(range(len(rows)), min(len(rows), CROWD)))
    cosines = rows[some] @ rows[some].T
    near = min(NEIGHBOURS + 1, len(some))  # each text is its own nearest
    crowding = np.partition(cosines, -near, axis=1)[:, -near:].sum(axis=1)
    centres = np.argsort(-crowding, kind="stable")[: max(1, len(some) // CROWDED_SHARE)]
    return _first(rows @ rows[some[draw.choice(centres.tolist())]], size)


def diverse(rows: np.ndarray, size: int, draw: random.Random) -> list[int]:
    """Picks a text drawn at random, then always the one farthest from all chosen (Gonzalez
    1985)."""
    chosen = [draw.randrange(len(rows))]
    closest = rows @ rows[chosen[0]]
    for _ in range(size - 1):
        closest[chosen] = np.inf
        chosen.append(int(closest.argmin()))
        closest = np.maximum(closest, rows @ rows[chosen[-1]])
    return chosen


def nearest(rows: np.ndarray, drafts: np.ndarray, size: int) -> list[int]:
    """Picks the `size` texts nearest to any of `drafts`, unit embeddings (drafts, d): the nearest
    of each draft first, then the second of each, and so on."""
    orders = [_first(cosines, size) for cosines in drafts @ rows.T]
    # Rank by rank; a dict keeps the first place of each text.
    ranked = dict.fromkeys(row for rank in zip(*orders, strict=True) for row in rank)
    return list(ranked)[:size]


def _first(cosines: np.ndarray, size: int) -> list[int]:
    return [int(row) for row in np.argsort(-cosines, kind="stable")[:size]]

"""A small language with a known truth, its judge, and an embedder: what evaluations are tried on.

A clause is a subject, a verb, an object and a way; which verbs are likely depends on the subject.
Frequencies fall with rank, so that texts can be sharpened, or sampled too far into the tail.
"""

import random
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log

import numpy as np

from steer.models.readings import Readings, gather

SYLLABLES = ("ba", "de", "gi", "ko", "lu", "ma", "ne", "ri", "so", "tu", "va", "ze")
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES]
KINDS = [[word + end for word in WORDS[i::4]] for i, end in enumerate(("n", "s", "m", "ly"))]


def texts(n: int, seed: int, temperature: float = 1.0) -> list[str]:
    """`n` different texts of one to three clauses. Temperature 1 is the language; below, texts are
    sharpened, above, drawn too far from the tail."""
    draw, found = random.Random(seed), dict[str, None]()
    while len(found) < n:
        found[" and ".join(_clause(draw, temperature) for _ in range(draw.choice((1, 2, 3))))] = (
            None
        )
    return list(found)


def _clause(draw: random.Random, temperature: float) -> str:
    said, before = [], 0
    for kind in KINDS:
        weights = [(rank + 1) ** (-1 / temperature) for rank in range(len(kind))]
        place = draw.choices(range(len(kind)), weights)[0] + 5 * before
        said.append(kind[place % len(kind)])
        before = place
    return " ".join(said)


def shuffled(some: Sequence[str]) -> list[str]:
    """The same texts, the words of each in another order."""
    draw = random.Random(0)
    return [" ".join(draw.sample(text.split(), len(text.split()))) for text in some]


def replaced(some: Sequence[str], share: float = 0.3) -> list[str]:
    """The same texts, some words in place of which stand others of the language."""
    draw, every = random.Random(0), [word for kind in KINDS for word in kind]
    return [
        " ".join(draw.choice(every) if draw.random() < share else word for word in text.split())
        for text in some
    ]


class PairJudge:
    """Reads words by how often each follows the one before, learnt from `known` texts: one of
    another family than what wrote the texts that it judges, unless `sibling` says else."""

    task = None

    def __init__(self, name: str, known: Sequence[str], sibling: bool = False) -> None:
        self.name, self.sibling = name, sibling
        self.bases: list[str | None] = []
        self.calls: list[tuple[str, str]] = []
        pairs = [pair for text in known for pair in self._pairs(text)]
        self.pairs, self.firsts = Counter(pairs), Counter(first for first, _ in pairs)
        self.size = len({second for _, second in pairs}) + 1

    @staticmethod
    def _pairs(text: str) -> list[tuple[str, str]]:
        words = ["", *text.split(), ""]
        return list(pairwise(words))

    def read(self, texts, labels, on_texts) -> Readings:
        self.calls += zip(texts, labels, strict=True)
        on_texts(len(texts), len(texts))
        return readings([[self._log(pair) for pair in self._pairs(text)] for text in texts])

    def _log(self, pair: tuple[str, str]) -> float:
        return log((self.pairs[pair] + 0.1) / (self.firsts[pair[0]] + 0.1 * self.size))

    def is_sibling(self, base: str | None) -> bool:
        self.bases.append(base)
        return self.sibling

    def cut(self, texts) -> int:
        return 0


def readings(tokens: Sequence[Sequence[float]]) -> Readings:
    """What a judge says of texts, from the log-probabilities of their tokens."""
    return gather([np.array(each) for each in tokens])


class StubEmbedder:
    """Hashes character 3-grams into 32 dimensions: near texts are near, and it is fast."""

    name = "stub"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def embed(self, texts, on_texts=None) -> np.ndarray:
        self.calls.append(list(texts))
        if on_texts:
            on_texts(0, len(texts))
            on_texts(len(texts), len(texts))
        rows = np.ones((len(texts), 32), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for i in range(len(text)):
                row[zlib.crc32(text[i : i + 3].encode()) % 32] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def cut(self, texts) -> int:
        return sum(len(text) > 200 for text in texts)

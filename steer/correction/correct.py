"""Correction of a list of texts, whoever made them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steer.correction.acceptance import accept
from steer.correction.features import Embeds
from steer.correction.outcome import Correction
from steer.correction.selector import Sample, Selector, embedder_of, enough
from steer.data.corpus import Corpus, as_corpus
from steer.errors import SteerError
from steer.seeds import derive

MOST = 2000
"""Most texts of either kind that a selector is fitted on; of more, so many drawn ones."""


@dataclass(frozen=True)
class Corrected:
    """Texts that were accepted, in their order, with their places among the candidates (from 0) and
    log ratios; and how the correction went."""

    texts: tuple[str, ...]
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    correction: Correction


def correct(
    candidates: Corpus | Iterable[str],
    real: Corpus | Iterable[str],
    n: int,
    *,
    embedder: Embeds | str | None = None,
    seed: int = 0,
) -> Corrected:
    """Accepts `n` of the candidates, at random and in proportion to how much likelier each is as a
    real text, as `steer generate --candidates` does.

    `embedder` is what a `Selector` reads (default: MiniLM); measure with another. The same texts in
    another order give the same choice. Raises `SteerError` for fewer candidates than `n`, and for
    too few texts of either kind.
    """
    made, known = as_corpus(candidates, "candidates"), as_corpus(real, "real texts")
    if not 0 < n <= len(made.texts):
        raise SteerError(
            f"n is {n}, but there are {len(made.texts)} candidates in {made.source}; "
            "give a number from 1 to that"
        )
    reader = embedder_of(embedder)
    sample = _drawn(known.texts, "real", seed)
    rows = Sample(sample, reader.embed(sample))
    selector = Selector.fit(rows, _drawn(made.texts, "candidate", seed), embedder=reader, seed=seed)
    scores = selector.score(made.texts)
    took = accept(scores, n, _keys(made.texts), derive(seed, "correction"))
    texts = tuple(made.texts[row] for row in took.rows)
    figures = Correction.of(took, selector.detectability)
    if enough(texts):
        again = Selector.fit(rows, _drawn(texts, "accepted", seed), embedder=reader, seed=seed)
        figures = replace(figures, after=round(again.detectability, 4))
    kept = tuple(np.round(scores[list(took.rows)], 6).tolist())
    return Corrected(texts, took.rows, kept, figures)


def _drawn(texts: Sequence[str], what: str, seed: int) -> list[str]:
    """Draws at most `MOST` of the texts, the same ones in any order."""
    keys = _keys(texts)
    order = sorted(range(len(texts)), key=lambda row: derive(seed, what, keys[row]))
    return [texts[row] for row in order[:MOST]]


def _keys(texts: Sequence[str]) -> list[str]:
    """Names each text by itself and how often it has come before."""
    seen: dict[str, int] = {}
    keys = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        keys.append(f"{seen[text]} {text}")
    return keys

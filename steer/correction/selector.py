"""A selector: how much likelier a text is as a real one than as a candidate, from both samples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from steer.correction.crossfit import Stack, auroc, cross_fit, held_out_scores
from steer.correction.features import Embeds, Lengths, Space, Unread
from steer.data.folds import split_folds
from steer.data.neardup import NearIndex
from steer.data.words import fold
from steer.errors import SteerError
from steer.models.cache import Cache
from steer.models.embedder import load_embedder

By = Literal["text", "length"]
"""What texts are compared by: all that is read of them, or their lengths alone."""

LEAST = 100
"""Fewest different texts of either sample: below, the ratio cannot be estimated
(docs/correction.md)."""

LEAST_LENGTHS = 20
"""The same where lengths alone are compared."""

FOLDS = 5
_MIXED = 5


@dataclass(frozen=True)
class Sample:
    """Texts of one kind. `embeddings` (texts, d), where they are known, save embedding them.

    `given` (texts, e) are further scalars, such as log-probabilities; a row of NaN has none.
    `weights` (texts,) count the texts, by default alike.
    """

    texts: Sequence[str]
    embeddings: np.ndarray | None = None
    given: np.ndarray | None = None
    weights: np.ndarray | None = None

    def embedded(self, embedder: Embeds) -> np.ndarray:
        """Gives the texts' unit rows, (texts, d)."""
        return embedder.embed(self.texts) if self.embeddings is None else self.embeddings

    def counts(self) -> np.ndarray:
        """Gives the texts' weights, (texts,)."""
        return np.ones(len(self.texts)) if self.weights is None else self.weights


@dataclass(frozen=True, eq=False)
class Selector:
    """Estimate of log p_real - log p_candidate for any text; made by `Selector.fit`.

    Stacked logistic regressions read word 1-2-grams, principal components of an embedding, and
    scalars; or the length alone. `real_scores` and `candidate_scores`, in the order of the samples,
    are cross-fitted: no text is scored by a model that was fitted on it, or on one equal or nearly
    equal to it. `detectability` is their AUROC: 0.5 where real texts and candidates cannot be told
    apart. It flatters whatever was selected by these scores; measure that with other features.
    """

    real_scores: np.ndarray
    candidate_scores: np.ndarray
    detectability: float
    embedder: Embeds
    _space: Space | Lengths = field(repr=False)
    _stacks: Sequence[Stack] = field(repr=False)
    _folds: dict[str, int] = field(repr=False)
    _near: NearIndex = field(repr=False)

    @classmethod
    def fit(
        cls,
        real: Sample | Sequence[str],
        candidates: Sample | Sequence[str],
        *,
        embedder: Embeds | str | None = None,
        seed: int = 0,
        by: By = "text",
    ) -> "Selector":
        """Fits on two samples, of any two sizes: a ratio does not depend on them.

        `embedder` is one, or the name of one (default: MiniLM); do not measure with the same one.
        The order of the texts changes nothing. With `by` "length" nothing but the number of
        characters is read. Raises `SteerError` for fewer than `LEAST` different texts in a sample
        (by length `LEAST_LENGTHS`), and for scalars that are given of one sample alone, or by
        length.
        """
        real, candidates = _sample(real), _sample(candidates)
        for sample, kind in ((real, "real texts"), (candidates, "candidates")):
            _require(sample, kind, by)
        if (real.given is None) != (candidates.given is None):
            raise SteerError("found scalars given of one sample; give them of both, or of none")
        if by == "length" and real.given is not None:
            raise SteerError("found scalars given of texts that are compared by length alone")
        rows = _Rows.of(real, candidates, Unread() if by == "length" else embedder_of(embedder))
        mixed = min(_MIXED, LEAST_LENGTHS // FOLDS) if by == "length" else _MIXED
        folds = split_folds(rows.texts, rows.real, FOLDS, seed, least=mixed)
        placed = folds.placed
        space: Space | Lengths
        if by == "length":
            space, families = Lengths.fit(rows.texts)
        else:
            space, families = Space.fit(rows.texts, rows.embeddings, rows.given)
        stacks = cross_fit(families, rows.real, rows.weights, placed)
        scores = held_out_scores(stacks, families, placed)
        given = rows.unsorted(scores)
        return cls(
            given[: len(real.texts)],
            given[len(real.texts) :],
            auroc(scores, rows.real, placed),
            rows.embedder,
            space,
            stacks,
            dict(zip(map(fold, rows.texts), placed.tolist(), strict=True)),
            folds.index,
        )

    def score(self, texts: Sample | Sequence[str]) -> np.ndarray:
        """Estimates the log ratio of each text, fp64 (texts,).

        A text that is equal, or nearly, to one that was fitted on is scored by the models that were
        fitted without it, any other by the mean over all of them. Raises `SteerError` unless the
        texts are given as many further scalars as those that were fitted on.
        """
        sample = _sample(texts)
        if not sample.texts:
            return np.empty(0)
        given = 0 if sample.given is None else sample.given.shape[1]
        if given != self._space.given:
            raise SteerError(
                f"found {given} scalars given of each text, but the selector was fitted with "
                f"{self._space.given}; give as many"
            )
        families = self._space.families(sample.texts, sample.embedded(self.embedder), sample.given)
        by_fold = np.stack([stack(families) for stack in self._stacks])
        scores = by_fold.mean(axis=0)
        for row, text in enumerate(sample.texts):
            if (known := self._fold(text)) is not None:
                scores[row] = by_fold[known, row]
        return scores

    def _fold(self, text: str) -> int | None:
        found = self._near.find(text)
        return None if found is None else self._folds[found]


@dataclass(frozen=True)
class _Rows:
    """Rows of both samples in an order of their own, so that sums do not depend on the given one;
    `order` leads back."""

    texts: list[str]
    real: np.ndarray
    embeddings: np.ndarray
    given: np.ndarray | None
    weights: np.ndarray
    order: np.ndarray
    embedder: Embeds

    @classmethod
    def of(cls, real: Sample, candidates: Sample, embedder: Embeds) -> "_Rows":
        texts = [*real.texts, *candidates.texts]
        kind = np.arange(len(texts)) < len(real.texts)
        extra = None
        if real.given is not None and candidates.given is not None:
            extra = np.concatenate([real.given, candidates.given])
        values = [()] * len(texts) if extra is None else [tuple(map(repr, row)) for row in extra]
        order = np.array(sorted(range(len(texts)), key=lambda i: (texts[i], kind[i], values[i])))
        rows = np.concatenate([real.embedded(embedder), candidates.embedded(embedder)])
        counts = np.concatenate([real.counts(), candidates.counts()])
        return cls(
            [texts[i] for i in order],
            kind[order],
            rows[order],
            None if extra is None else extra[order],
            counts[order],
            order,
            embedder,
        )

    def unsorted(self, values: np.ndarray) -> np.ndarray:
        """Puts a value of each row into the order that the texts were given in."""
        given = np.empty(len(values))
        given[self.order] = values
        return given


def enough(texts: Iterable[str], by: By = "text") -> bool:
    """Whether there are so many different texts that a selector can be fitted on them."""
    return len({fold(text) for text in texts}) >= least(by)


def least(by: By) -> int:
    """Fewest different texts of either sample."""
    return LEAST_LENGTHS if by == "length" else LEAST


def compared_by(real: Sequence[str]) -> By | None:
    """What candidates can be compared by with so many `real` texts; None with too few for any."""
    kinds: tuple[By, ...] = ("text", "length")
    return next((by for by in kinds if enough(real, by)), None)


def embedder_of(embedder: Embeds | str | None) -> Embeds:
    """Gives the embedder back, or loads the one of that name; None is the default one."""
    if embedder is None or isinstance(embedder, str):
        return load_embedder(embedder, Cache())
    return embedder


def _sample(texts: Sample | Sequence[str]) -> Sample:
    return texts if isinstance(texts, Sample) else Sample(list(texts))


def _require(sample: Sample, kind: str, by: By) -> None:
    if not enough(sample.texts, by):
        different = len({fold(text) for text in sample.texts})
        raise SteerError(
            f"found {different} different {kind}: a ratio cannot be estimated from fewer than "
            f"{least(by)}; give more"
        )

"""Correction of a run's rounds: which candidates become records, by a selector that is fitted from
the rounds alone.

All that passed a round's checks are candidates. A selector is fitted when they are `GROWTH` times
as many as at the last fit, on at most `MOST` of the latest ones and `MOST` real texts. So a fit
takes bounded time and memory, a run has few of them, and one that is continued finds the same
selector from its files. Regions of the real texts that the records so far have too few of, or too
many, count for more, or less (`steer.correction.regions`).
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from steer.config import RunConfig
from steer.correction.acceptance import accept, effective
from steer.correction.features import Embeds
from steer.correction.outcome import Correction
from steer.correction.regions import Regions
from steer.correction.selector import By, Sample, enough
from steer.data.corpus import Corpus
from steer.runs.records import UNLIKE, Record, Reject
from steer.runs.selectors import Pile, Selectors, fit_selectors
from steer.seeds import derive

GROWTH = 1.5
MOST = 2000

SAME = 0.9
"""Effective sample size, of the candidates, from which their lengths are taken to be as the real
ones."""


@dataclass
class Batch:
    """Candidates of one round in the order of their attempts; `accepted` are ids of them.

    A text's embedding may depend on its neighbours in a batch, in its last bits. So each round's
    candidates are embedded together, also when the run is continued.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str | None]
    accepted: frozenset[str] = frozenset()
    _rows: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, attempts: Iterable[Record | Reject]) -> "Batch":
        """Finds the candidates of a committed round."""
        passed = [a for a in attempts if isinstance(a, Record) or a.reason in ("surplus", UNLIKE)]
        return cls(
            [attempt.id for attempt in passed],
            [attempt.text for attempt in passed],
            [attempt.label for attempt in passed],
            frozenset(attempt.id for attempt in passed if isinstance(attempt, Record)),
        )

    def rows(self, embedder: Embeds) -> np.ndarray:
        """Gives the unit rows, (candidates, d)."""
        if self._rows is None:
            self._rows = embedder.embed(self.texts)
        return self._rows


@dataclass(frozen=True)
class Choice:
    """Choice among a round's candidates: the ids of those accepted, the score of each (none before
    there is a selector), and how it went for each label."""

    accepted: frozenset[str]
    scores: Mapping[str, float]
    corrections: tuple[Correction, ...]


class Corrector:
    """Chooses records among the candidates of a run, by its seed and its rounds alone. They are
    compared with the real texts `by` all that is read of a text, or its length."""

    def __init__(self, config: RunConfig, real: Corpus, embedder: Embeds, by: By = "text") -> None:
        self.by = by
        self._config, self._embedder = config, embedder
        self._labelled = bool(config.labels and real.labels)
        self._real = self._drawn(real)
        self._window: deque[Batch] = deque()
        self._seen = self._fitted = 0
        self._basis: tuple[Batch, ...] = ()
        self._selectors: Selectors | None = {}
        self._regions: dict[str | None, Regions | None] = {}

    def replay(self, attempts: Iterable[Record | Reject]) -> None:
        """Takes in a committed round, in order."""
        self._admit(Batch.of(attempts))

    @property
    def candidates(self) -> int:
        """Candidates to make for a record, after the rounds so far: one where only lengths are
        compared, and those of the candidates are as the real ones."""
        found = self._ready().values() if self.by == "length" else ()
        same = [effective(selector.candidate_scores) >= SAME for selector in found]
        return 1 if same and all(same) else self._config.candidates

    def choose(self, batch: Batch, missing: Mapping[str | None, int], candidates: int) -> Choice:
        """Chooses one in `candidates` for each label, and at most the `missing` ones; all with the
        same chance where there is no selector yet, or no choice. After a fit, and where nothing is
        missing any more, it is also measured how the accepted compare with the real texts."""
        fresh = self._admit(batch)
        chosen = Choice(frozenset(), {}, ())
        selectors = self._ready() if candidates > 1 else {}
        for label in dict.fromkeys(batch.labels):
            rows = [row for row, other in enumerate(batch.labels) if other == label]
            due = min(missing[label], max(1, round(len(rows) / candidates)))
            chosen = self._choose(batch, rows, due, selectors, chosen)
        batch.accepted = chosen.accepted
        last = len(chosen.accepted) == sum(missing.values())
        if chosen.corrections and (fresh or last):
            return replace(chosen, corrections=self._measured(chosen.corrections))
        return chosen

    def _choose(
        self,
        batch: Batch,
        rows: Sequence[int],
        n: int,
        selectors: Selectors,
        before: Choice,
    ) -> Choice:
        """Adds the choice of `n` of the `rows`, which are of one label, to those `before`; where
        none is due, none is scored."""
        if not n:
            return before
        label, ids = batch.labels[rows[0]], [batch.ids[row] for row in rows]
        selector = selectors.get(self._kind(label))
        scores = factors = np.zeros(len(rows))
        if selector is not None:
            texts, vectors = [batch.texts[row] for row in rows], batch.rows(self._embedder)[rows]
            scores = selector.score(Sample(texts, vectors))
            factors = self._factors(label, vectors)
        took = accept(scores + factors, n, ids, derive(self._config.seed, "correction"))
        accepted = before.accepted | {ids[row] for row in took.rows}
        if selector is None:
            return replace(before, accepted=accepted)
        said = zip(ids, scores.round(6).tolist(), strict=True)
        figures = Correction.of(took, selector.detectability, label)
        return Choice(accepted, {**before.scores, **dict(said)}, (*before.corrections, figures))

    def _measured(self, corrections: tuple[Correction, ...]) -> tuple[Correction, ...]:
        """Adds how well the accepted can be told from the real texts, by models fitted for that."""
        found = self._fit(tuple(self._window), accepted=True)
        after = {label: round(each.detectability, 4) for label, each in found.items()}
        return tuple(
            replace(each, after=after.get(self._kind(each.label)), **self._evenness(each.label))
            for each in corrections
        )

    def _factors(self, label: str | None, vectors: np.ndarray) -> np.ndarray:
        """Log of the factor that each of a label's new rows (texts, d) has by its region."""
        regions = self._regions_of(label)
        if regions is None:
            return np.zeros(len(vectors))
        factors = regions.factors(regions.places(self._latest(label, accepted=True)))
        return np.asarray(np.log(factors[regions.places(vectors)]))

    def _evenness(self, label: str | None) -> dict[str, Any]:
        regions = self._regions_of(label)
        if regions is None:
            return {}
        made, kept = (self._latest(label, accepted=accepted) for accepted in (False, True))
        found = {
            "uneven_before": regions.uneven(regions.places(made)),
            "uneven_after": regions.uneven(regions.places(kept)),
            "uneven_chance": regions.chance(len(kept)),
        }
        return {name: round(value, 4) for name, value in found.items()}

    def _regions_of(self, label: str | None) -> Regions | None:
        kind = self._kind(label)
        if kind not in self._regions:
            rows = self._pile().of({kind}).rows
            seed = derive(self._config.seed, "regions")
            self._regions[kind] = Regions.fit(rows, seed) if self.by == "text" else None
        return self._regions[kind]

    def _latest(self, label: str | None, *, accepted: bool) -> np.ndarray:
        """Rows of a label's latest candidates, or of those of them that were accepted, (texts, d);
        of a run whose real texts have no labels, those of all."""
        rows = [
            batch.rows(self._embedder)[row]
            for batch in self._window
            for row, id in enumerate(batch.ids)
            if self._kind(batch.labels[row]) == self._kind(label)
            and (not accepted or id in batch.accepted)
        ]
        return np.stack(rows) if rows else np.empty((0, self._real.rows(self._embedder).shape[1]))

    def _admit(self, batch: Batch) -> bool:
        """Adds a round's candidates to the latest ones; says whether it is time for a new
        selector."""
        self._window.append(batch)
        self._seen += len(batch.ids)
        held = sum(len(each.ids) for each in self._window)
        while held - len(self._window[0].ids) >= MOST:
            held -= len(self._window.popleft().ids)
        texts = (text for each in self._window for text in each.texts)
        enough_now = self._fitted or enough(texts, self.by)
        if enough_now and self._seen >= GROWTH * self._fitted:
            self._fitted, self._basis = self._seen, tuple(self._window)
            self._selectors = None
            return True
        return False

    def _ready(self) -> Selectors:
        """Gives the selectors; fitted only when they are needed, so that a run that is continued
        fits no more than the last."""
        if self._selectors is None:
            self._selectors = self._fit(self._basis)
        return self._selectors

    def _fit(self, batches: Sequence[Batch], accepted: bool = False) -> Selectors:
        """Fits selectors on the candidates of some rounds, or on those of them that were accepted;
        of more than `MOST`, so many drawn ones."""
        places = [
            (number, row)
            for number, batch in enumerate(batches)
            for row, id in enumerate(batch.ids)
            if not accepted or id in batch.accepted
        ]
        seed = self._config.seed
        places.sort(key=lambda at: derive(seed, "candidate", batches[at[0]].ids[at[1]]))
        places = places[:MOST]
        if not places:
            return {}
        pile = Pile(
            [batches[number].texts[row] for number, row in places],
            [self._kind(batches[number].labels[row]) for number, row in places],
            np.stack([batches[number].rows(self._embedder)[row] for number, row in places]),
        )
        return fit_selectors(self._pile(), pile, self._embedder, derive(seed, "selector"), self.by)

    def _pile(self) -> Pile:
        rows = self._real.rows(self._embedder)
        return Pile(self._real.texts, [self._kind(label) for label in self._real.labels], rows)

    def _drawn(self, real: Corpus) -> Batch:
        """Draws at most `MOST` of the real texts."""
        numbers = range(len(real.texts))
        order = sorted(numbers, key=lambda row: derive(self._config.seed, "real", row))[:MOST]
        labels = real.labels or (None,) * len(real.texts)
        texts, named = [real.texts[row] for row in order], [labels[row] for row in order]
        return Batch([f"real:{row}" for row in order], texts, named)

    def _kind(self, label: str | None) -> str | None:
        """Label by which texts are compared: none where the real texts have none."""
        return label if self._labelled else None

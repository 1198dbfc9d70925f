"""A run in figures, with its first records: read one round after the other, however many it has."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from steer.correction.outcome import Correction, overall
from steer.runs.records import Record
from steer.runs.store import Stream


@dataclass(frozen=True)
class Overview:
    """Counts of a run's records by label (None is no label) and of its rejects by reason, the most
    frequent first; the `first` records; the figures of the whole correction, if there was one."""

    run: Stream
    counts: Mapping[str | None, int]
    reasons: Mapping[str, int]
    first: tuple[Record, ...]
    correction: Correction | None

    @classmethod
    def of(cls, run: Stream, first: int) -> "Overview":
        """Reads the run and keeps its `first` records. Raises `SteerError` when a round is
        damaged."""
        accepted, reasons = Counter[str | None](), Counter[str]()
        kept: list[Record] = []
        corrections: list[Correction] = []
        for round in run.rounds():
            corrections += round.corrections
            for attempt in round.attempts:
                if not isinstance(attempt, Record):
                    reasons[attempt.reason] += 1
                    continue
                accepted[attempt.label] += 1
                if len(kept) < first:
                    kept.append(attempt)
        counts = {label: accepted[label] for label in run.config.wanted}
        by_frequency = dict(reasons.most_common())
        return cls(run, counts, by_frequency, tuple(kept), overall(corrections))

    @property
    def complete(self) -> bool:
        """Whether every record wanted was accepted."""
        return self.counts == self.run.config.wanted

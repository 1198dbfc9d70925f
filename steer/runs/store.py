"""Storage of a run: its identity, and one file for each finished round.

    RUN/run.json              format, version of steer, settings, sources; written once
    RUN/grown-1.json          more records or attempts than that, asked for later; and so on
    RUN/lock                  held by the process that writes; in a local folder
    RUN/rounds/000000.jsonl   a header line, then the attempts of the round in their order

A round is committed by renaming a complete, synced file into place, or at an address such as
s3://bucket/run by creating one object. So whatever stops the process, a round is there whole or not
at all.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.config import RunConfig, Sources, differences
from steer.correction.outcome import Correction, overall
from steer.errors import SteerError
from steer.files import check_format, json_bytes
from steer.runs import frames
from steer.runs.growth import SIZES, grown, shrinking, sizes
from steer.runs.places import Place, place_of, reason
from steer.runs.records import Record, Reject
from steer.runs.roundfile import RoundFile, check_order, count_rounds, layout, parse, round_name
from steer.values import NOT_OURS, short, what_is_wrong
from steer.version import __version__

FORMAT = 1
_IDENTITY = "run.json"
_NAMES = ("method", "base", "real", "expert", "dtype", "threads", "compiled")  # may differ


@dataclass(frozen=True)
class Run:
    """A run as its folder has it: finished, stopped, or still being written. `corrections` are
    those of each corrected round, one a label."""

    path: Path | str
    version: str
    config: RunConfig
    sources: Sources
    records: tuple[Record, ...]
    rejects: tuple[Reject, ...]
    rounds: int
    corrections: tuple[tuple[Correction, ...], ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Reads a run, in a folder or at an address, without locking it. Raises `SteerError` when
        there is no run or a file in it is damaged."""
        place, path, version, config, sources = _open(path)
        rounds = list(_read_rounds(place, config.wanted))
        attempts = [attempt for round in rounds for attempt in round.attempts]
        records = tuple(attempt for attempt in attempts if isinstance(attempt, Record))
        rejects = tuple(attempt for attempt in attempts if isinstance(attempt, Reject))
        corrections = tuple(round.corrections for round in rounds if round.corrections)
        return cls(path, version, config, sources, records, rejects, len(rounds), corrections)

    @property
    def counts(self) -> dict[str | None, int]:
        """Accepted records for each label wanted; None is no label."""
        accepted = Counter(record.label for record in self.records)
        return {label: accepted[label] for label in self.config.wanted}

    @property
    def texts(self) -> list[str]:
        """Texts of the accepted records."""
        return [record.text for record in self.records]

    @property
    def labels(self) -> list[str] | None:
        """Labels of the accepted records; None without labels."""
        return [record.label for record in self.records if record.label is not None] or None

    def to_dataset(self) -> Any:
        """Gives the accepted records as a `datasets.Dataset`, with the columns that an export
        has."""
        return frames.to_dataset(self.records, self.sources.shape)

    def to_pandas(self) -> Any:
        """Gives the accepted records as a `pandas.DataFrame`, with the columns that an export
        has."""
        return frames.to_pandas(self.records, self.sources.shape)

    @property
    def reasons(self) -> dict[str, int]:
        """Number of rejects for each reason, the most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects).most_common())

    @property
    def reasons_in_words(self) -> str:
        """The `reasons` as one line, such as "3 short, 2 copy"; empty without rejects."""
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())

    @property
    def correction(self) -> Correction | None:
        """Figures of the run's whole correction; None where nothing was corrected."""
        return overall([correction for round in self.corrections for correction in round])

    @property
    def complete(self) -> bool:
        """Whether every record wanted was accepted."""
        return self.counts == self.config.wanted


@dataclass(frozen=True)
class Stream:
    """A run whose attempts are read one round after the other and not kept, however many they
    are."""

    path: Path | str
    version: str
    config: RunConfig
    sources: Sources

    @classmethod
    def open(cls, path: str | Path) -> "Stream":
        """Reads what a run is; raises `SteerError` as `Run.open` does."""
        return cls(*_open(path)[1:])

    def rounds(self) -> Iterator[RoundFile]:
        """Reads the rounds in their order. Raises `SteerError` when one is damaged."""
        return _read_rounds(place_of(self.path), self.config.wanted)

    def attempts(self) -> Iterator[Record | Reject]:
        """Reads the attempts in their order. Raises `SteerError` when a round is damaged."""
        for round in self.rounds():
            yield from round.attempts


class Store:
    """Writes a run; made by `open_store`, which keeps other writers away."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def sources(self) -> Sources:
        """Sources that the run was begun with."""
        return _read_identity(self._place)[2]

    def rounds(self) -> Iterator[list[Record | Reject]]:
        """Reads the attempts of each committed round, in order. Raises `SteerError` when
        damaged."""
        labels = _read_identity(self._place)[1].wanted
        return (round.attempts for round in _read_rounds(self._place, labels))

    def commit(
        self,
        round: int,
        attempts: Sequence[Record | Reject],
        corrections: Sequence[Correction] = (),
    ) -> None:
        """Writes a round, whole or not at all. Raises `SteerError` when the disk is full, or, at
        an address, when another process has written another round there."""
        self._place.write(round_name(round), layout(round, attempts, corrections))


@contextmanager
def open_store(out: Path | str, config: RunConfig, sources: Sources) -> Iterator[Store]:
    """Opens the run at `out`, a folder or an address, for writing, made if there is none.

    A run may grow: where `config` asks for more records or attempts than the run has been asked for
    before, that is kept with it. Raises `SteerError` when `out` is something else, when another
    process writes to it (a folder is locked; at an address the second to commit a round is
    refused), or when its other settings or its sources differ from those given, naming what
    differs. A folder that was made here goes again
    when a `SteerError` comes before the first round.
    """
    place = place_of(out)
    if place.has(_IDENTITY):
        _read_identity(place)  # whatever else it is, it is left alone
    else:
        try:
            place.refuse_foreign()
        except SteerError:
            # Another process may have begun the run since it was looked for.
            if not place.has(_IDENTITY):
                raise
    with place.hold():
        if not place.has(_IDENTITY):
            place.write(_IDENTITY, _identity(config, sources))
        _compare(place, config, sources)
        _grow(place, config)
        yield Store(place)


def begun_with(out: Path | str) -> tuple[RunConfig, Sources] | None:
    """Reads the settings and sources of the run at `out`; None where there is none.

    Raises `SteerError` when it is damaged.
    """
    place = place_of(out)
    return _read_identity(place)[1:] if place.has(_IDENTITY) else None


def is_over(out: Path | str, config: RunConfig, sources: Sources) -> bool:
    """Whether there is a run at `out`, with these settings and sources, that has all its records
    or used up its attempts. Raises `SteerError` when it is damaged."""
    place = place_of(out)
    if not place.has(_IDENTITY) or _differences(place, config, sources):
        return False
    attempts, accepted = 0, Counter[str | None]()
    for round in _read_rounds(place, config.wanted):
        attempts += len(round.attempts)
        accepted.update(a.label for a in round.attempts if isinstance(a, Record))
    return attempts >= config.attempts or accepted >= Counter(config.wanted)


def _open(path: str | Path) -> tuple[Place, Path | str, str, RunConfig, Sources]:
    place = place_of(path)
    if not place.has(_IDENTITY):
        raise SteerError(f"{place.path} is no run: there is no run.json in it")
    return place, place.path, *_read_identity(place)


def _differences(place: Place, config: RunConfig, sources: Sources) -> list[str]:
    _, old_config, old_sources = _read_identity(place)
    return [
        *shrinking(old_config, config),
        *differences(old_config, config, (*_NAMES, *SIZES)),
        *differences(old_sources, sources, _NAMES),
    ]


def _compare(place: Place, config: RunConfig, sources: Sources) -> None:
    if differing := _differences(place, config, sources):
        raise SteerError(
            f"{place.path} is a run with other settings: {'; '.join(differing)}; "
            "use the same settings to continue it, or another folder"
        )


def _grow(place: Place, config: RunConfig) -> None:
    """Keeps the sizes of a run that are larger than those it had."""
    if sizes(_read_identity(place)[1]) == sizes(config):
        return
    values = {"format": FORMAT, "steer": __version__, **sizes(config)}
    place.write(_grown_name(_growths(place) + 1), json_bytes(values))


def _growths(place: Place) -> int:
    """Counts how often the run has grown."""
    times = 0
    while place.has(_grown_name(times + 1)):
        times += 1
    return times


def _grown_name(time: int) -> str:
    return f"grown-{time}.json"


def _identity(config: RunConfig, sources: Sources) -> bytes:
    values = {
        "format": FORMAT,
        "steer": __version__,
        "config": config.model_dump(mode="json"),
        "sources": sources.model_dump(mode="json"),
    }
    return json_bytes(values)


def _read_identity(place: Place) -> tuple[str, RunConfig, Sources]:
    """Reads the version of steer, the settings, as far as they have grown, and the sources."""
    values = _read_json(place, _IDENTITY)
    times = _growths(place)
    later = _read_json(place, _grown_name(times)) if times else None
    with _reading(place.where(_IDENTITY)):
        config, sources = RunConfig(**values["config"]), Sources(**values["sources"])
        _check_written(values["config"], config.model_dump(mode="json"))
        _check_written(values["sources"], sources.model_dump(mode="json"))
        version = str(values["steer"])
    if not later:
        return version, config, sources
    with _reading(place.where(_grown_name(times))):
        larger = grown(config, later)
        _check_written({name: later[name] for name in SIZES}, sizes(larger))
        if smaller := shrinking(config, larger):
            raise ValueError(smaller[0])
    return version, larger, sources


def _check_written(values: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Raises `ValueError` where JSON `values` are not as steer would have `written` them, such as a
    number as text; an older version may have written fewer."""
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(written[name], dict):
            _check_written(value, written[name])
        elif (type(value), value) != (type(written[name]), written[name]):
            raise ValueError(f"{name} is {short(value)}: write {short(written[name])}")


def _read_json(place: Place, name: str) -> dict[str, Any]:
    path = place.where(name)
    try:
        content = place.read(name)
    except OSError as error:
        raise SteerError(f"cannot read {path}: {reason(error)}") from None
    with _reading(path):
        values: dict[str, Any] = json.loads(content)
    if isinstance(values, dict) and "format" in values:
        check_format(path, values, FORMAT)
        return values
    raise SteerError(f"{path} is damaged or not of a steer run: there is no format in it")


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns what is wrong in the file at `path` into a `SteerError` that names it."""
    try:
        yield
    except (*NOT_OURS, SteerError) as error:
        reason = str(error) if isinstance(error, SteerError) else what_is_wrong(error)
        raise SteerError(f"{path} is damaged or not of a steer run: {reason}") from None


def _read_rounds(place: Place, labels: Collection[str | None]) -> Iterator[RoundFile]:
    """Reads the rounds 0, 1, ... as far as there are any; a gap means that a file was lost. Their
    attempts have `labels`, and each id is there once."""
    try:
        names = place.rounds()
    except OSError as error:
        raise SteerError(f"cannot read {place.where('rounds')}: {reason(error)}") from None
    last = -1
    for round in range(count_rounds(names)):
        path = place.where(round_name(round))
        try:
            file = parse(place.read(round_name(round)), round)
            last = check_order(file.attempts, round, labels, last)
        except OSError as error:
            raise SteerError(
                f"cannot read {path}: {reason(error)}; later rounds are there, so restore it"
            ) from None
        except NOT_OURS as error:
            raise SteerError(
                f"{path} is damaged ({what_is_wrong(error)}); restore it, or delete it and all "
                "later rounds to generate them again"
            ) from None
        yield file

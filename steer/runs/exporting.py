"""A run's records as a file of another kind, or as a Hugging Face dataset, read and written one
round after the other."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from steer.config import Config
from steer.errors import SteerError
from steer.files import new_file, new_folder, refuse_existing
from steer.runs.atlas import atlas
from steer.runs.card import CardFacts, CardSettings, dataset_card
from steer.runs.columns import arrow_types, beside, flat_cells, own_columns
from steer.runs.folders import DatasetFolder, ForHub, OnDisk
from steer.runs.formats import WRITERS, Csv, Parquet, Row, Writer, flattened
from steer.runs.lineage import check_ids, held
from steer.runs.records import Record
from steer.runs.store import Stream
from steer.seeds import derive

SPLITS = ("train", "validation", "test")
_SHOWN = 5


class ExportSettings(Config):
    """Settings of an export.

    `columns` are those to write (all when empty), in this order. `without` are ids of real texts or
    records: every record whose panel held one is left out. `split` is the parts of train,
    validation and test; a record's part follows from its id, so it stays there when the run grows.
    `atlas` adds coordinates and neighbours by the `embedder`. `guard` keeps spreadsheets from
    running cells of a CSV. A folder is laid out for the Hub if `hub`, else for `load_from_disk`.
    """

    columns: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    split: tuple[float, float, float] | None = None
    atlas: bool = False
    embedder: str | None = None
    guard: bool = True
    hub: bool = False
    card: CardSettings = Field(default_factory=CardSettings)

    @model_validator(mode="after")
    def _check(self) -> "ExportSettings":
        check_ids("--without", self.without)
        if self.split and (min(self.split) < 0 or not sum(self.split)):
            raise SteerError(f"split is {self.split}: give three parts such as 80:10:10")
        return self


@dataclass
class Exported:
    """What was written: `records`, by their `splits`; `dropped` were left out as their panels held
    what is withdrawn; `guarded` are the CSV's cells that a spreadsheet would have run."""

    dropped: int = 0
    guarded: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    sample: list[Record] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Number of records written."""
        return self.splits.total()


def export(
    run_path: str | Path, out: str | Path, settings: ExportSettings | None = None
) -> Exported:
    """Writes the accepted records of a run to `out`.

    `out` ends in .jsonl, .csv, .parquet or .md (a sample to read), or is a folder: a Hugging Face
    dataset with its dataset card. Of records that are objects each column is one of the file's,
    before those of how it was made. The file appears whole or not at all; memory hardly grows with
    the records, but for an atlas. Raises `SteerError` when it exists, has another ending, or there
    are no records to write.
    """
    stream, out, settings = Stream.open(run_path), Path(out), settings or ExportSettings()
    if out.suffix and out.suffix not in WRITERS:
        raise SteerError(
            f"{out} ends in {out.suffix}; end it in {', '.join(WRITERS)}, or in nothing for a "
            "folder with a Hugging Face dataset"
        )
    refuse_existing(out)
    job = _Job(stream, settings, out.suffix)
    if out.suffix:
        with new_file(out) as path:
            job.write(lambda _: _writer(path, settings, job.types))
    else:
        with new_folder(out) as folder:
            made: DatasetFolder = ForHub(folder) if settings.hub else OnDisk(folder)
            job.write(lambda split: made.writer(split, job.types))
            card = dataset_card(job.facts(made), settings.card)
            (folder / "README.md").write_text(card, "utf-8", errors="replace")
    return job.done


def _writer(path: Path, settings: ExportSettings, types: Mapping[str, Any]) -> Writer:
    if path.suffix == ".csv":
        return Csv(path, settings.guard)
    return Parquet(path, types) if path.suffix == ".parquet" else WRITERS[path.suffix](path)


class _Job:
    """One export: rows are made from the stream and given to the writer of their split."""

    def __init__(self, stream: Stream, settings: ExportSettings, suffix: str) -> None:
        self._stream, self._settings, self._suffix = stream, settings, suffix
        self._without = frozenset(settings.without)
        self.done = Exported()

    @property
    def types(self) -> dict[str, Any]:
        """Types of the records' own columns."""
        return arrow_types(self._stream.sources.shape)

    def write(self, writer: Callable[[str], Writer]) -> None:
        """Writes every row with the `writer` of its split."""
        writers: dict[str, Writer] = {}
        with ExitStack() as stack:
            for split, row in self._rows():
                name = split if not self._suffix else SPLITS[0]
                if name not in writers:
                    writers[name] = writer(name)
                    stack.callback(writers[name].close)
                writers[name].add(row)
                self.done.splits[split] += 1
        self.done.guarded = sum(writer.guarded for writer in writers.values())
        if not self.done.records:
            raise SteerError(self._nothing())

    def facts(self, folder: DatasetFolder) -> CardFacts:
        """Facts for the dataset card, once all is written; completes the folder."""
        stream, done = self._stream, self.done
        splits = {name: done.splits[name] for name in SPLITS if done.splits[name]}
        files, features = folder.finish(tuple(splits))
        return CardFacts(
            stream.version,
            stream.config,
            stream.sources,
            splits,
            done.counts,
            done.reasons,
            tuple(done.sample),
            files,
            features,
        )

    def _nothing(self) -> str:
        if self.done.dropped:
            return f"every record of {self._stream.path} was made with what --without names"
        return f"{self._stream.path} has no records yet; continue the run first"

    def _rows(self) -> Iterator[tuple[str, Row]]:
        origin = _origin(self._stream)
        places = iter(self._places())
        for record in self._records():
            split = self._split(record.id)
            fields = record.to_row() | origin | next(places, {})
            if self._settings.split and self._suffix:
                fields["split"] = split
            self.done.counts[record.label or "(none)"] += 1
            if len(self.done.sample) < _SHOWN:
                self.done.sample.append(record)
            yield split, self._chosen(self._row(record, fields))

    def _row(self, record: Record, fields: Row) -> Row:
        """A record's own columns, where it has some, and the fields that say how it was made."""
        shape = self._stream.sources.shape
        if self._suffix == ".md":
            return fields
        own = own_columns(record.text, shape)
        if self._suffix != ".jsonl":
            own = flat_cells(own, shape, lists=self._suffix != ".csv")
            fields = flattened(fields)
        return beside(own, fields)

    def _records(self) -> Iterator[Record]:
        """Reads the records that are kept, and counts the others."""
        self.done.reasons.clear()
        self.done.dropped = 0
        for attempt in self._stream.attempts():
            if not isinstance(attempt, Record):
                self.done.reasons[attempt.reason] += 1
            elif self._without & (held(attempt, self._stream.sources) | {attempt.id}):
                self.done.dropped += 1
            else:
                yield attempt

    def _places(self) -> list[dict[str, Any]]:
        if not self._settings.atlas:
            return []
        texts = [record.text for record in self._records()]
        return atlas(texts, self._settings.embedder) if texts else []

    def _split(self, id: str) -> str:
        parts = self._settings.split
        if parts is None:
            return SPLITS[0]
        point = derive(self._stream.config.seed, "split", id) / 2**63 * sum(parts)
        if point < parts[0]:
            return SPLITS[0]
        return SPLITS[1] if point < parts[0] + parts[1] else SPLITS[2]

    def _chosen(self, row: Mapping[str, Any]) -> Row:
        wanted = self._settings.columns
        if self._suffix == ".md":
            return row
        if unknown := [name for name in wanted if name not in row]:
            raise SteerError(
                f"--columns names {unknown[0]!r}, which is none; the columns are {', '.join(row)}"
            )
        return {name: row[name] for name in wanted} if wanted else row


def _origin(stream: Stream) -> dict[str, Any]:
    """Columns that are equal for all records of a run, as the file has no run.json beside it."""
    columns = {
        "method": stream.config.method,
        "settings": stream.config.model_dump(mode="json", exclude={"method"}),
        "expert": stream.sources.expert,
        "base": stream.sources.base,
        "run": str(stream.path),
        "steer": stream.version,
    }
    # A path that is not UTF-8 holds lone surrogates, which no file of UTF-8 can hold.
    kept: dict[str, Any] = json.loads(
        json.dumps(columns, ensure_ascii=False).encode(errors="replace")
    )
    return kept

"""Real texts: from files of any kind, a Hugging Face dataset, or at hand."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from steer.data.columns import as_records
from steer.data.reading.chats import Chat
from steer.data.reading.gather import Gathered
from steer.data.reading.readers import open_rows
from steer.data.reading.rows import Rows
from steer.data.reading.settings import Reading
from steer.errors import SteerError
from steer.shapes import Shape


@dataclass(frozen=True)
class Corpus:
    """Texts in their order, with one label each or none at all, and where they came from.

    `notes` say in a line each what was decided or left out when they were read. Where a text is an
    object of columns, `shape` is what these are like. `turns` are what was said before each text,
    where all are answers. `left_out` are the options that left rows out.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    source: str
    notes: tuple[str, ...] = field(default=(), compare=False)
    shape: Shape | None = field(default=None, compare=False)
    turns: tuple[Chat, ...] | None = field(default=None, compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(
        cls, texts: Iterable[str], labels: Iterable[Any] | None = None, source: str = "texts"
    ) -> "Corpus":
        """Makes a corpus of a list of strings, with a label for each or without labels; messages
        call it by its `source`.

        Raises `SteerError` as `load_corpus` does, and when `texts` is no list or the labels are
        more or fewer.
        """
        columns = {"text": _as_list(texts, source)}
        if labels is not None:
            columns["label"] = _as_list(labels, f"labels of {source}")
        sizes = [len(values) for values in columns.values()]
        if len(set(sizes)) > 1:
            raise SteerError(f"{source} has {sizes[0]} texts but {sizes[1]} labels; give one each")
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        gathered = Gathered(Reading(label_column="label" if labels is not None else None))
        gathered.add(Rows(source, "item", enumerate(rows), tuple(columns)))
        return _corpus(gathered, source)

    @classmethod
    def of_rows(cls, rows: Any, reading: Reading | None = None, source: str = "rows") -> "Corpus":
        """Makes a corpus of rows at hand, read as `load_corpus` reads those of a file: a list of
        dictionaries, a `datasets.Dataset`, a DataFrame of pandas or polars. Raises `SteerError` as
        `load_corpus` does, and for anything else."""
        listed = _as_rows(rows, source)
        gathered = Gathered(reading or Reading())
        names = tuple(dict.fromkeys(name for row in listed for name in row))
        gathered.add(Rows(source, "row", enumerate(listed, start=1), names))
        return _corpus(gathered, source)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint: the first 16 hex digits of the SHA-256 of texts and labels; the source does
        not count."""
        content = json.dumps([self.texts, self.labels])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def chat_fingerprint(self) -> str:
        """The same of texts, labels and what was said before."""
        content = json.dumps([self.texts, self.labels, self.turns])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the different labels, sorted; empty without labels."""
        return tuple(sorted(set(self.labels or ())))


def load_corpus(
    source: str | Path | Iterable[str | Path],
    text_column: str | None = None,
    label_column: str | None = None,
    reading: Reading | None = None,
) -> Corpus:
    """Loads texts from files of any kind that docs/data.md lists, or a Hugging Face dataset.

    `source` is a file, a folder, a pattern such as "parts/*.csv", several of them in a list or
    with commas, "-" (standard input), or a dataset OWNER/NAME or OWNER/NAME:SPLIT (default split:
    train). The text column is "text", or the only column of texts; `reading` says more, and the
    columns named apart go first. Nothing is left out unless `reading` says so: a text that is
    missing, blank or no string, or holds control characters, is a `SteerError` that names its row
    and the option that helps (blank lines of JSONL and CSV, and those at the end of plain text,
    are no rows).
    """
    name = source if isinstance(source, str) else ",".join(map(str, _several(source)))
    named = {"text_column": text_column, "label_column": label_column}
    changed = {key: value for key, value in named.items() if value is not None}
    gathered = Gathered(Reading(**dict(reading or Reading()) | changed))
    try:
        for rows in open_rows(name, gathered.reading, gathered.notes):
            gathered.add(rows)
    except OSError as error:
        raise SteerError(f"cannot read {name}: {error.strerror or error}") from None
    return _corpus(gathered, name)


def as_corpus(texts: Corpus | Iterable[str], source: str = "texts") -> Corpus:
    """Gives a corpus back as it is, and makes one of a list of strings; raises `SteerError` as
    `Corpus.of` does."""
    return texts if isinstance(texts, Corpus) else Corpus.of(texts, source=source)


def _several(source: str | Path | Iterable[str | Path]) -> Iterable[str | Path]:
    return [source] if isinstance(source, str | Path) else source


def _as_list(values: Iterable[Any], source: str) -> list[Any]:
    # Characters of a string, keys, and a set's items, whose order changes, are not meant.
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise SteerError(
            f"{source} is a {type(values).__name__}: {str(values)[:40]!r}; give a list of strings "
            "or a Corpus (load_corpus reads a file)"
        )
    return list(values)


def _as_rows(rows: Any, source: str) -> list[Mapping[str, Any]]:
    if hasattr(rows, "to_dicts"):  # of polars
        rows = rows.to_dicts()
    elif hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # of pandas
        rows = rows.to_dict("records")
    listed = _as_list(rows, source)
    if not all(isinstance(row, Mapping) for row in listed):
        raise SteerError(
            f"{source} is no table; give a list of dictionaries, a datasets.Dataset or a DataFrame"
        )
    return listed


def _corpus(gathered: Gathered, source: str) -> Corpus:
    texts, labels = gathered.result(source)
    shape, reading = None, gathered.reading
    if reading.record:
        texts, shape = as_records(texts, reading.shape, gathered.textual, source)
    notes = tuple(dict.fromkeys(gathered.notes))
    left_out = tuple(sorted(gathered.left_out))
    return Corpus(texts, labels, source, notes, shape, gathered.turns, left_out)

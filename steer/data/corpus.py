"""Real texts: from a file, a Hugging Face dataset, or at hand."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from steer.data.table import Table, read_table
from steer.errors import SteerError


@dataclass(frozen=True)
class Corpus:
    """Texts in their order, with one label each or none at all, and where they came from."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None
    source: str

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
        table = Table(source, columns, range(sizes[0]), "item")
        return _corpus(table, source, "text", "label" if labels is not None else None)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint: the first 16 hex digits of the SHA-256 of texts and labels; the source does
        not count."""
        content = json.dumps([self.texts, self.labels])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the different labels, sorted; empty without labels."""
        return tuple(sorted(set(self.labels or ())))


def load_corpus(
    source: str | Path, text_column: str | None = None, label_column: str | None = None
) -> Corpus:
    """Loads texts from JSONL, CSV, Parquet, plain text (a line each) or a Hugging Face dataset.

    A dataset is `name` or `name:split` (default split: train). The text column is "text", or
    the only column of strings. Every row counts: a text that is missing, blank or no string is
    a `SteerError` that names its row (blank lines of JSONL and CSV, and those at the end of
    plain text, are no rows).
    """
    return _corpus(read_table(str(source)), str(source), text_column, label_column)


def as_corpus(texts: Corpus | Iterable[str], source: str = "texts") -> Corpus:
    """Gives a corpus back as it is, and makes one of a list of strings; raises `SteerError` as
    `Corpus.of` does."""
    return texts if isinstance(texts, Corpus) else Corpus.of(texts, source=source)


def _as_list(values: Iterable[Any], source: str) -> list[Any]:
    # Characters of a string, keys, and a set's items, whose order changes, are not meant.
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise SteerError(
            f"{source} is a {type(values).__name__}: {str(values)[:40]!r}; give a list of strings "
            "or a Corpus (load_corpus reads a file)"
        )
    return list(values)


def _corpus(table: Table, source: str, text_column: str | None, label_column: str | None) -> Corpus:
    if not table.numbers:
        raise SteerError(f"{source} is empty: it has no texts; give one text a row")
    column = text_column or _guess_text_column(table, label_column)
    texts = tuple(_texts(table, column))
    labels = tuple(_labels(table, label_column)) if label_column else None
    return Corpus(texts, labels, source)


def _guess_text_column(table: Table, label_column: str | None) -> str:
    if "text" in table.columns and label_column != "text":
        return "text"
    strings = [
        name
        for name, values in table.columns.items()
        if name != label_column and all(isinstance(value, str) for value in values)
    ]
    if len(strings) == 1:
        return strings[0]
    raise SteerError(f"{table.source} has no column 'text'; choose the text column: {table.names}")


def _texts(table: Table, column: str) -> list[str]:
    values = table.strings(column, "text")
    blank = [row for row, value in enumerate(values) if not value.strip()]
    if blank:
        raise SteerError(
            f"{table.where(blank[0])} has a blank text ({len(blank)} in all); take such rows out"
        )
    return values


def _labels(table: Table, column: str) -> list[str]:
    """Turns labels into strings; whole numbers and booleans are common as labels, so they may
    be."""
    values = table.column(column, "label")
    labels = [str(value) if isinstance(value, int) else value for value in values]
    for row, label in enumerate(labels):
        table.check_string(row, column, label)
        if not label.strip():
            raise SteerError(f"{table.where(row)} has a blank label in column {column!r}")
    return labels

"""Texts and labels gathered from rows: each checked, what is left out counted."""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from steer.data.characters import find_control, is_blank, name_control
from steer.data.labels import look_alikes, spell
from steer.data.reading.chats import Chat
from steer.data.reading.layout import ABSENT, Layout, find_layout
from steer.data.reading.oddities import Oddities
from steer.data.reading.rows import NoValue, Row, Rows, shown
from steer.data.reading.settings import Reading
from steer.errors import SteerError, counted

_SAMPLE = 100
LONGEST_TEXT = 1_000_000
"""Characters of one text: longer ones take minutes to compare and no model reads them."""
MOST_TEXTS, MOST_CHARACTERS = 10_000_000, 2**31
"""Texts, and characters of all of them, that are kept in memory."""
_LISTED = re.compile(r"\[\s*([\"'\d\[{].*)?\]|\{\s*[\"'].*\}", re.DOTALL)
"""A label that is a list or an object, as JSON or Python write one: cells of CSV may hold some."""
_ALIKE = 3
"""Files of which the same is said one by one."""
_MANY = 50
"""Labels beyond which likenesses are not looked for: such a column is no list of names."""


@dataclass
class _Fault:
    """Rows that cannot be used for one reason: where the first one is, what is wrong with it, what
    to do about it, and the option that leaves them out."""

    what: str
    option: str
    skipped: bool
    advice: str = "take such rows out"
    first: str = ""
    count: int = 0

    def at(self, place: str, advice: str | None = None) -> None:
        if not self.count:
            self.first, self.advice = place, advice or self.advice
        self.count += 1


@dataclass(frozen=True)
class _Faults:
    """The faults that rows of one file may have, and what is only said of them."""

    blank: _Fault
    control: _Fault
    unread: _Fault
    odd: Oddities

    @classmethod
    def of(cls, reading: Reading) -> "_Faults":
        return cls(
            _Fault("a blank text", "--skip-blank", reading.skip_blank),
            _Fault("control characters", "--skip-control", reading.skip_control),
            _Fault("a formula or an error for a text", "--skip-blank", reading.skip_blank),
            Oddities(),
        )


@dataclass
class Gathered:
    """Texts, labels and `notes` of the rows added so far, read as `reading` says; `textual` if
    cells of some were all text. `left_out` are the options that left rows out."""

    reading: Reading
    notes: list[str] = field(default_factory=list)
    textual: bool = False
    left_out: set[str] = field(default_factory=set)
    _texts: list[str] = field(default_factory=list)
    _labels: list[str] = field(default_factory=list)
    _turns: list[Chat] = field(default_factory=list)
    _spelt: dict[str, str] = field(default_factory=dict)
    _said: dict[str, list[str]] = field(default_factory=dict)
    _rows: int = 0
    _characters: int = 0

    def add(self, rows: Rows) -> None:
        """Adds the rows of one file. Raises `SteerError` for one whose text or label is missing or
        no string; for blank texts and control characters with their number, unless the settings
        leave such rows out."""
        faults = _Faults.of(self.reading)
        if rows.advice:
            faults.blank.advice = rows.advice
        self.textual |= rows.textual
        sample = list(islice(rows.numbered, _SAMPLE))
        if sample:
            layout = find_layout(rows, [row for _, row in sample], self.reading)
            for number, row in chain(sample, rows.numbered):
                self._rows += 1
                self._add(rows, number, row, layout, faults)
        said = [*rows.notes, *faults.odd.notes(rows.source)]
        for fault in (faults.blank, faults.control, faults.unread):
            said += _report(rows.source, fault)
            self.left_out |= {fault.option} if fault.count else set()
        for note in said:
            self._said.setdefault(note.replace(rows.source, "", 1), []).append(rows.source)

    def result(self, source: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
        """Gives all texts and their labels, None if none were asked for; completes the notes.
        Raises `SteerError` when there are no texts."""
        if not self._texts:
            left_out = f" but {counted(self._rows, 'row')}, left out" if self._rows else ""
            raise SteerError(f"{source} is empty: it has no texts{left_out}; give one text a row")
        for rest, sources in self._said.items():
            self.notes += _condensed(rest, sources)
        self._said.clear()
        labelled = self.reading.label_column is not None
        if labelled:
            self._compare_labels(source)
        return tuple(self._texts), tuple(self._labels) if labelled else None

    @property
    def turns(self) -> tuple[Chat, ...] | None:
        """What was said before each text; None unless something was before every one."""
        return tuple(self._turns) if len(self._turns) == len(self._texts) else None

    def _add(self, rows: Rows, number: int, row: Row, layout: Layout, faults: _Faults) -> None:
        try:
            text = layout.text(row)
        except SteerError as error:
            raise SteerError(f"{rows.where(number)}: {error}") from None
        if (text is None or text is ABSENT) and self.reading.skip_blank:
            return faults.blank.at(rows.where(number))
        if isinstance(text, NoValue):
            return faults.unread.at(f"{rows.where(number)} holds {text.what}", text.advice)
        text = _string(text, layout.column, rows, number)
        self._characters += len(text)
        _check_size(text, self._rows, self._characters, rows, number)
        if character := find_control(text):
            found = f"holds {name_control(character)}: {shown(text)}"
            return faults.control.at(f"{rows.where(number)} {found}")
        if is_blank(text):
            return faults.blank.at(rows.where(number))
        faults.odd.add(text)
        if after := layout.after(row):
            faults.odd.add_after(after)
        if layout.label is not None:
            value = layout.label(row)
            known = self._spelt.get(value) if type(value) is str else None
            label = known or _label(value, layout.label_column, rows, number)
            if type(value) is str:
                self._spelt[value] = label
            faults.odd.add_label(label)
            self._labels.append(label)
        if turns := layout.turns(row):
            self._turns.append(turns)
        self._texts.append(text)
        return None

    def _compare_labels(self, source: str) -> None:
        counts = Counter(self._labels)
        for alike in look_alikes(counts) if len(counts) <= _MANY else ():
            listed = ", ".join(f"{label!r} ({counts[label]})" for label in alike)
            self.notes.append(
                f"{source}: the labels {listed} look alike but are kept apart; write them alike if "
                "they are one"
            )


def _report(source: str, fault: _Fault) -> list[str]:
    """Notes about rows that were left out. Raises `SteerError` where they were not to be."""
    if not fault.count:
        return []
    if fault.skipped:
        return [f"{source}: left out {counted(fault.count, 'row')} with {fault.what}"]
    says = fault.first if "holds" in fault.first else f"{fault.first} has {fault.what}"
    raise SteerError(
        f"{says} ({fault.count} in all); {fault.advice}, or leave them out with {fault.option}"
    )


def _condensed(rest: str, sources: list[str]) -> list[str]:
    """Writes what is said of several files: of many in one line."""
    if len(sources) > _ALIKE:
        return [f"{sources[0]} and {len(sources) - 1} more files, each{rest}"]
    return [f"{source}{rest}" for source in sources]


def _check_size(text: str, texts: int, characters: int, rows: Rows, number: int) -> None:
    """Raises `SteerError` for more than can be read: a small file may unpack to anything."""
    if len(text) > LONGEST_TEXT:
        raise SteerError(
            f"{rows.where(number)} has a text of {len(text):,} characters; at most "
            f"{LONGEST_TEXT:,} are read: cut it into several texts"
        )
    if texts > MOST_TEXTS or characters > MOST_CHARACTERS:
        raise SteerError(
            f"{rows.where(number)}: at most {MOST_TEXTS:,} texts and {MOST_CHARACTERS:,} "
            "characters are read; give a part of them"
        )


def _string(value: Any, column: str, rows: Rows, number: int) -> str:
    """Gives a text back; raises `SteerError` where it is none."""
    if isinstance(value, str):
        try:
            value.encode()
            return value
        except UnicodeEncodeError:
            raise SteerError(
                f"{rows.where(number)} holds half a character (a lone surrogate) in column "
                f"{column!r}; correct the text or take it out"
            ) from None
    if value is None or value is ABSENT:
        raise SteerError(
            f"{rows.where(number)} has no value in column {column!r}; leave such rows out with "
            "--skip-blank, or name another --text-column"
        )
    raise SteerError(
        f"{rows.where(number)} has a {type(value).__name__} in column {column!r}, not a string: "
        f"{shown(value)}; name another --text-column"
    )


def _label(value: Any, column: str | None, rows: Rows, number: int) -> str:
    """Spells a label; raises `SteerError` where it is none."""
    if isinstance(value, NoValue):
        raise SteerError(
            f"{rows.where(number)} has {value.what} in column {column!r}; {value.advice}, or name "
            "another --label-column"
        )
    label = None if value is ABSENT else spell(value)
    listed = label is not None and _LISTED.fullmatch(label)
    if label is not None and not listed and not is_blank(label) and not find_control(label):
        return _string(label, str(column), rows, number)
    if value is None or value is ABSENT or value != value:
        found = "no value"
    elif label is None or listed:
        kind = "list or an object in a string" if listed else type(value).__name__
        found = f"a {kind}, which can be no label: {shown(value)},"
    else:
        found = "a blank label" if is_blank(label) else "a label with control characters"
    raise SteerError(
        f"{rows.where(number)} has {found} in column {column!r}; give each text a label, or name "
        f"another --label-column{_within(value, column)}"
    )


def _within(value: Any, column: str | None) -> str:
    """Names a part of a value that is a list or an object, for a message."""
    if isinstance(value, list) and value and spell(value[0]):
        return f", such as {column}.0 for the first of each list"
    parts = [key for key, each in value.items() if spell(each)] if isinstance(value, dict) else []
    return f", such as {column}.{parts[0]}" if parts else ""

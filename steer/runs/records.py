"""A record, a rejected one, and the checks that decide which it is."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter

from steer.config import Weights
from steer.data.forbidden import Forbidden
from steer.data.neardup import NearIndex
from steer.data.reading.chats import messages
from steer.data.scripts import reading_length
from steer.data.tasks import Task
from steer.values import checked

Reason = Literal[
    "unfinished",
    "unparsed",
    "short",
    "copy",
    "near-copy",
    "duplicate",
    "near-duplicate",
    "forbidden",
    "surplus",
    "unlike the real texts",
    "by hand",
]
UNLIKE: Final = "unlike the real texts"
_SHARED = (
    "label",
    "prompt",
    "weights",
    "engine",
    "model",
    "adapter",
    "finish_reason",
    "panel",
    "positive",
)
STREAMS = ("expert", "base", "negative", "positive", "contrast")


@lru_cache(maxsize=1024)
def _one(value: Hashable) -> Any:
    """Gives the equal value seen lately, if any: a run's records share most of theirs, and a run of
    millions is read into half the memory."""
    return value


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One generated text and where it came from: a `Record` when accepted, else a `Reject`.

    `id` is "rec:" and the number of the attempt in its run; `panel` holds the ids of the panel's
    members, "real:" and the row of a real text (from 0) or "rec:" and the attempt of a record.
    With several negative panels `panel` holds all their members; `positive` is the positive panel.
    `model` and `adapter` are fingerprints. `log_probs` has the mean log-probability (nats a
    token) under each of `STREAMS`; None where the stream did not run. `score` is the log ratio by
    which a candidate was accepted or not; None where there was no selector. An answer in a chat has
    the earlier `turns`, each who speaks and what is said, of the real text `asked`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^rec:(0|[1-9][0-9]{0,17})$")]
    text: str
    label: str | None
    prompt: str
    gamma: float
    eta: float
    alpha: float
    weights: Weights
    panel: tuple[str, ...]
    seed: int
    round: int
    engine: str
    model: str
    adapter: str
    tokens: int
    finish_reason: str
    log_probs: Mapping[str, float | None]
    rho: float = 0.0
    positive: tuple[str, ...] = ()
    score: float | None = None
    asked: str | None = None
    turns: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Gives the fields as JSON values, a score and a chat only where there is one;
        `read_attempt` reads them back."""
        panels = {"panel": list(self.panel), "positive": list(self.positive)}
        values = vars(self) | panels | {"log_probs": dict(self.log_probs)}
        if self.score is None:
            del values["score"]
        if self.asked is None:
            del values["asked"], values["turns"]
        return values

    def to_row(self) -> dict[str, Any]:
        """Gives the same as a row of a table, a chat whole, as `messages`."""
        values = self.to_json()
        if values.pop("turns", None):
            values["messages"] = messages(self.turns, self.text)
        return values

    @property
    def number(self) -> int:
        """Number of the attempt in its run, from 0."""
        return int(self.id.removeprefix("rec:"))


@dataclass(frozen=True, kw_only=True)
class Record(Attempt):
    """An accepted text."""


@dataclass(frozen=True, kw_only=True)
class Reject(Attempt):
    """A text that was not accepted, with the reason, and the id of the text that it repeats, if
    any."""

    reason: Reason
    of: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Line(Attempt):
    """A line of a round's file: a reject where there is a reason, else a record."""

    reason: Reason | None = None
    of: str | None = None


_LINE = TypeAdapter(_Line)


def read_attempt(line: bytes) -> Record | Reject:
    """Reads a record or reject from the values of `to_json`, written as JSON. Raises `ValueError`
    where a field is missing, unknown, or not of its type."""
    values = vars(checked(_LINE, line))
    values |= {name: _one(values[name]) for name in _SHARED}
    if values["reason"] is not None:
        return Reject(**values)
    del values["reason"], values["of"]
    return Record(**values)


def finite_log_probs(log_probs: Mapping[str, float]) -> dict[str, float | None]:
    """Keeps a value for each of `STREAMS`; None where there is none or it is infinite or NaN, which
    JSON cannot hold."""
    values = {name: log_probs.get(name, math.nan) for name in STREAMS}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


class Verdict(NamedTuple):
    """Result of a check: the record's text, and when rejected the reason and the id of the text it
    repeats."""

    text: str
    reason: Reason | None = None
    of: str | None = None


class Checker:
    """Checks completions against the task, the real texts and the records kept so far.

    Exact means equal once folded (`steer.data.words.fold`); near means a Jaccard index of character
    5-grams of at least `threshold`. Characters are counted as `reading_length` does, so that a
    short text of Han characters is not too short. Of a record that is an object only the values
    count (`Task.compared`). What is too close to a `forbidden` text is
    rejected for that before it is compared with any other.
    """

    def __init__(
        self,
        task: Task,
        real: Sequence[str],
        threshold: float = 0.8,
        forbidden: Forbidden | None = None,
    ) -> None:
        self._task, self._forbidden = task, forbidden
        self._known = NearIndex(threshold)
        for row, text in enumerate(real):
            self.keep(f"real:{row}", text)

    def fresh(self) -> NearIndex:
        """Makes an empty index that finds what this checker calls near."""
        return NearIndex(self._known.threshold)

    def check(
        self, completion: str, finish_reason: str, others: NearIndex | None = None
    ) -> Verdict:
        """Gives the verdict on a completion; an accepted text counts for later checks once `keep`
        was called. Texts like one of the `others`, by id, are duplicates too."""
        text = self._task.parse(completion)
        if finish_reason == "length" or text is None:
            reason: Reason = "unfinished" if finish_reason == "length" else "unparsed"
            return Verdict(self._task.record(completion), reason)
        said = self._task.compared(text)
        if reading_length(said) < self._task.min_chars:
            return Verdict(text, "short")
        if self._forbidden and (row := self._forbidden.find(said)) is not None:
            return Verdict(text, "forbidden", f"forbid:{row}")
        verdict = _compare(self._known, said)
        if others is not None and verdict.reason is None:
            verdict = _compare(others, said)
        return verdict._replace(text=text)

    def keep(self, id: str, text: str) -> None:
        """Takes in a text: from now on, texts like it are duplicates ("rec:...") or copies
        ("real:...")."""
        self._known.add(id, self._task.compared(text))


def _compare(index: NearIndex, text: str) -> Verdict:
    if (of := index.find_equal(text)) is not None:
        return Verdict(text, "copy" if of.startswith("real:") else "duplicate", of)
    if (of := index.find(text)) is not None:
        return Verdict(text, "near-copy" if of.startswith("real:") else "near-duplicate", of)
    return Verdict(text)

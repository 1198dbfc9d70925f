"""Lineage: which texts the panels of a record held, and which records came after a text."""

import re
from collections import Counter
from collections.abc import Iterable

from steer.config import Sources
from steer.errors import SteerError, counted
from steer.runs.records import Attempt, Record
from steer.runs.store import Stream

_ID = re.compile(r"(real|rec):\d+")


def check_ids(option: str, ids: Iterable[str]) -> None:
    """Raises `SteerError` for what is no id of a real text or a record."""
    for id in ids:
        if not _ID.fullmatch(id):
            raise SteerError(
                f"{option} is {id!r}: write real:17 for row 17 (from 0) of the real texts, "
                "or rec:12 for attempt 12"
            )


def held(attempt: Attempt, sources: Sources) -> frozenset[str]:
    """Ids of the texts that had a part in an attempt: those in its panels, and the one whose
    earlier turns it answers."""
    return _shown(attempt, sources) | ({attempt.asked} if attempt.asked else set())


def _shown(attempt: Attempt, sources: Sources) -> frozenset[str]:
    """Ids of the texts that the panels of an attempt held. Positive panels drawn from texts of
    their own hold no real ones, though their ids look like it."""
    apart = sources.towards_fingerprint not in (None, sources.data_fingerprint)
    return frozenset(attempt.panel if apart else (*attempt.panel, *attempt.positive))


def lineage(run: Stream, id: str) -> list[str]:
    """Lists, as lines to read, what the panel of a record held, and the records whose panels held
    `id`, a real text or a record. Raises `SteerError` for an id that the run does not know."""
    check_ids("--lineage", [id])
    found: Attempt | None = None
    attempts = records = 0
    after: list[str] = []
    asked = ""
    for attempt in run.attempts():
        attempts += 1
        found = attempt if attempt.id == id else found
        if isinstance(attempt, Record):
            records += 1
            if id in held(attempt, run.sources):
                after.append(f"{attempt.id}  {attempt.text}")
                asked = ", or answer what it answers" if attempt.asked == id else asked
    if id.startswith("rec:") and found is None:
        raise SteerError(f"{run.path} has no {id}; its attempts are rec:0 to rec:{attempts - 1}")
    lines = [_made(found, run.sources) if found else f"{id}: a real text"]
    lines.append(f"{len(after)} of {counted(records, 'record')} had it in their panel{asked}")
    return [*lines, *after]


def _made(attempt: Attempt, sources: Sources) -> str:
    members = sorted(_shown(attempt, sources), key=lambda id: (id[:3], int(id.partition(":")[2])))
    kinds = Counter(id.partition(":")[0] for id in members)
    what = "a record" if isinstance(attempt, Record) else "a rejected attempt"
    return (
        f"{attempt.id}: {what} of round {attempt.round}; its panels held {kinds['real']} real "
        f"texts and {kinds['rec']} records: {', '.join(members) or 'none'}"
        f"{f'; it answers the turns before {attempt.asked}' if attempt.asked else ''}"
    )

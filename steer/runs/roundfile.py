"""The file of a round: a header line, then its attempts in their order, a line of JSON each."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from steer.correction.outcome import Correction
from steer.runs.records import Record, Reject, read_attempt
from steer.values import checked, short

_NAME = re.compile(r"[0-9]{6,12}\.jsonl")


@dataclass(frozen=True)
class RoundFile:
    """Content of a round's file."""

    attempts: list[Record | Reject]
    corrections: tuple[Correction, ...]


@dataclass(frozen=True)
class _Header:
    """First line of a round's file; `sha256` is that of all the others."""

    round: int
    attempts: int
    sha256: str
    corrections: tuple[Correction, ...] = ()


_HEADER = TypeAdapter(_Header)


def round_name(round: int) -> str:
    """Name of a round's file in the folder of its run."""
    return f"rounds/{round:06}.jsonl"


def count_rounds(names: Iterable[str]) -> int:
    """Counts the files of rounds among the names in "rounds/"."""
    return sum(_NAME.fullmatch(name) is not None for name in names)


def layout(
    round: int, attempts: Sequence[Record | Reject], corrections: Sequence[Correction]
) -> bytes:
    """Lays a round out as a file. Raises `ValueError` for what JSON cannot hold."""
    lines = [json.dumps(a.to_json(), ensure_ascii=False, allow_nan=False) for a in attempts]
    body = "".join(f"{line}\n" for line in lines).encode()
    header: dict[str, Any] = {"round": round, "attempts": len(lines), "sha256": _digest(body)}
    if corrections:
        header["corrections"] = [correction.to_json() for correction in corrections]
    return json.dumps(header).encode() + b"\n" + body


def parse(content: bytes, round: int) -> RoundFile:
    """Reads a round's file. Raises `ValueError` when it is of another round or damaged."""
    first, _, body = content.partition(b"\n")
    header, lines = checked(_HEADER, first), body.splitlines()
    if (header.round, header.sha256) != (round, _digest(body)):
        raise ValueError("its content does not match its header")
    if header.attempts != len(lines):
        raise ValueError(f"its header says {header.attempts} attempts, there are {len(lines)}")
    return RoundFile([read_attempt(line) for line in lines], header.corrections)


def check_order(
    attempts: Sequence[Record | Reject], round: int, labels: Collection[str | None], last: int
) -> int:
    """Raises `ValueError` where an attempt is of another round or label than the run's, or does not
    come after the one with the number `last`, so that no id is there twice. Gives the number of the
    last one."""
    for attempt in attempts:
        if attempt.round != round:
            raise ValueError(f"{attempt.id} says that it is of round {attempt.round}")
        if attempt.label not in labels:
            raise ValueError(f"{attempt.id} has the label {short(attempt.label)}, which none has")
        if attempt.number <= last:
            raise ValueError(f"{attempt.id} comes after rec:{last}")
        last = attempt.number
    return last


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

"""A run's folder: its identity, and one file for each finished round.

    RUN/run.json              format, version of steer, settings, sources; written once
    RUN/lock                  held by the process that writes
    RUN/rounds/000000.jsonl   a header line, then the attempts of the round in their order

A round is committed by renaming a complete, synced file into place, so that whatever stops the
process, a round is there whole or not at all.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.errors import SteerError
from steer.files import check_format, disk_errors, hold_lock, sync_folder, write_atomic
from steer.records import Record, Reject, read_attempt
from steer.runconfig import RunConfig, Sources, differences
from steer.version import __version__

FORMAT = 1
_ROUND = re.compile(r"\d{6,}\.jsonl")
_TEMPORARY = re.compile(r"\..*\.tmp")
_NAMES = ("base", "real")


@dataclass(frozen=True)
class Run:
    """A run as its folder has it: finished, stopped, or still being written."""

    path: Path
    version: str
    config: RunConfig
    sources: Sources
    records: tuple[Record, ...]
    rejects: tuple[Reject, ...]
    rounds: int

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Reads a run without locking it. Raises `SteerError` when `path` is no run folder or a
        file in it is damaged."""
        folder = Path(path)
        if not os.path.isfile(folder / "run.json"):
            raise SteerError(f"{folder} is no run: there is no run.json in it")
        version, config, sources = _read_identity(folder)
        rounds = list(_read_rounds(folder))
        attempts = [attempt for found in rounds for attempt in found]
        records = tuple(attempt for attempt in attempts if isinstance(attempt, Record))
        rejects = tuple(attempt for attempt in attempts if isinstance(attempt, Reject))
        return cls(folder, version, config, sources, records, rejects, len(rounds))

    @property
    def counts(self) -> dict[str | None, int]:
        """Accepted records for each label wanted; None is no label."""
        found = Counter(record.label for record in self.records)
        return {label: found[label] for label in self.config.wanted}

    @property
    def reasons(self) -> dict[str, int]:
        """Rejects for each reason found, the most frequent first."""
        return dict(Counter(reject.reason for reject in self.rejects).most_common())

    @property
    def complete(self) -> bool:
        """Whether every record wanted was accepted."""
        return self.counts == self.config.wanted


class Store:
    """Writes a run; made by `open_store`, which holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def rounds(self) -> Iterator[list[Record | Reject]]:
        """The attempts of each committed round, in order. Raises `SteerError` when damaged."""
        return _read_rounds(self._folder)

    def commit(self, round: int, attempts: Sequence[Record | Reject]) -> None:
        """Writes a round, whole or not at all. Raises `SteerError` when the disk is full."""
        lines = [json.dumps(a.to_json(), ensure_ascii=False, allow_nan=False) for a in attempts]
        body = "".join(f"{line}\n" for line in lines).encode()
        header = {"round": round, "attempts": len(lines), "sha256": _digest(body)}
        path = _round_path(self._folder, round)
        with disk_errors(path):
            write_atomic(path, json.dumps(header).encode() + b"\n" + body)


@contextmanager
def open_store(out: Path, config: RunConfig, sources: Sources) -> Iterator[Store]:
    """Locks the run folder `out`, made if there is none, for writing.

    Raises `SteerError` when `out` is something else, when another process writes to it, or when
    its settings or sources differ from those given, naming what differs. A folder that was made
    here goes again when a `SteerError` comes before the first round.
    """
    _refuse_foreign(out)
    new = not os.path.exists(out)
    with disk_errors(out):
        (out / "rounds").mkdir(parents=True, exist_ok=True)
    busy = f"another process is writing the run {out}; wait for it or choose another folder"
    with hold_lock(out, busy):
        try:
            _settle(out, config, sources)
            yield Store(out)
        except SteerError:
            # A mistake found before the first round must not stand in the way of its correction.
            if new and not any((out / "rounds").glob("*.jsonl")):
                shutil.rmtree(out, ignore_errors=True)
            raise


def _refuse_foreign(out: Path) -> None:
    """A folder is ours when it has a run.json, or what a run makes before that and no more."""
    # os.path: to it, a name that cannot be looked up is one that is not there.
    if not os.path.exists(out):
        return
    if not out.is_dir():
        raise SteerError(f"{out} is a file; choose another folder for the run")
    if (out / "run.json").exists():
        _read_identity(out)
        return
    with disk_errors(out):
        names = {name for name in os.listdir(out) if not _TEMPORARY.fullmatch(name)}
    if names - {"lock", "rounds"} or any((out / "rounds").glob("*")):
        raise SteerError(f"{out} exists and is no run folder; choose another folder for the run")


def _settle(out: Path, config: RunConfig, sources: Sources) -> None:
    """Writes the identity of a new run, or compares that of an old one; clears leftovers."""
    path = out / "run.json"
    with disk_errors(path):
        for leftover in [*out.glob(".*.tmp"), *(out / "rounds").glob(".*.tmp")]:
            leftover.unlink()
        if not path.exists():
            write_atomic(path, _identity(config, sources))
            sync_folder(out.absolute().parent)
            return
    _, old_config, old_sources = _read_identity(out)
    found = differences(old_config, config) + differences(old_sources, sources, ignore=_NAMES)
    if found:
        raise SteerError(
            f"{out} is a run with other settings: {'; '.join(found)}; "
            "use the same settings to continue it, or another folder"
        )


def _identity(config: RunConfig, sources: Sources) -> bytes:
    values = {
        "format": FORMAT,
        "steer": __version__,
        "config": config.model_dump(mode="json"),
        "sources": sources.model_dump(mode="json"),
    }
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _read_identity(folder: Path) -> tuple[str, RunConfig, Sources]:
    path = folder / "run.json"
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        check_format(path, values, FORMAT)
        return str(values["steer"]), RunConfig(**values["config"]), Sources(**values["sources"])
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SteerError(f"{path} is damaged or not of a steer run: {error!r}") from None


def _read_rounds(folder: Path) -> Iterator[list[Record | Reject]]:
    """The rounds 0, 1, ... as far as there are any; a gap means that a file was lost."""
    try:
        names = os.listdir(folder / "rounds")
    except OSError as error:
        raise SteerError(f"cannot read {folder / 'rounds'}: {error.strerror}") from None
    for round in range(sum(_ROUND.fullmatch(name) is not None for name in names)):
        path = _round_path(folder, round)
        try:
            yield _parse_round(path.read_bytes(), round)
        except OSError as error:
            raise SteerError(
                f"cannot read {path}: {error.strerror}; later rounds are there, so restore it"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SteerError(
                f"{path} is damaged ({error}); restore it, or delete it and all later rounds "
                "to generate them again"
            ) from None


def _parse_round(content: bytes, round: int) -> list[Record | Reject]:
    first, _, body = content.partition(b"\n")
    header = json.loads(first)
    if (header["round"], header["sha256"]) != (round, _digest(body)):
        raise ValueError("its content does not match its header")
    return [read_attempt(json.loads(line)) for line in body.splitlines()]


def _round_path(folder: Path, round: int) -> Path:
    return folder / "rounds" / f"{round:06}.jsonl"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()

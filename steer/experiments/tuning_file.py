"""Folder of a tuning: the method, its inputs, and the file that holds all of its state."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter

from steer.config import Config, differences
from steer.errors import SteerError
from steer.evaluation.settings import MIN_TEXTS
from steer.evaluation.summary import PARTS
from steer.experiments.trials import COHERENCE, SUMMARY, Trial, Tuning, command
from steer.files import (
    check_format,
    disk_errors,
    hold_lock,
    read_regular,
    reading,
    write_json,
)
from steer.values import check_values
from steer.version import __version__

FORMAT = 1
_FILE = "tuning.json"
_TRIAL = TypeAdapter(Trial)
_RAISED = ("settings.budget", "settings.trials")  # may change when a tuning is continued


class TuneSettings(Config):
    """Settings of a tuning: how long it takes, and how it measures. A trial is begun while a usual
    one fits into what is left of the `budget` in seconds, and there are at most `trials`; each
    makes `n` records with the same `seed`. `judges` and `embedder` are as in an evaluation."""

    budget: float = Field(1200, gt=0)
    trials: int | None = Field(None, ge=1)
    n: int = Field(64, ge=2 * MIN_TEXTS)
    seed: int = Field(0, ge=0)
    judges: tuple[str, ...] = ()
    embedder: str | None = None

    @property
    def parts(self) -> list[str]:
        """Components of the summary that are measured, which are what a tuning maximises."""
        return [key for key in PARTS if key != COHERENCE or self.judges]


class TuningInputs(Config):
    """Identity of a tuning: the method, and fingerprints of its space, of the models and of all
    texts."""

    method: str
    settings: TuneSettings
    space: str
    prompt: str
    max_new_tokens: int
    engine: str
    model: str
    adapter: str
    data: str
    real: str
    train: str
    towards: str | None


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the folder of a tuning, made if there is none. Raises `SteerError` when it is something
    else, and when another process holds it."""
    if os.path.lexists(out) and not (out / _FILE).exists() and not _fresh(out):
        raise SteerError(f"{out} exists and is no tuning; choose another folder")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with hold_lock(out, f"another process tunes in {out}; wait for it or choose another folder"):
        yield


def _fresh(out: Path) -> bool:
    """Whether there is nothing in `out` but what a tuning makes before its file."""
    return out.is_dir() and all(
        name == "lock" or name.startswith(f".{_FILE}") for name in os.listdir(out)
    )


def read_trials(out: Path, inputs: TuningInputs) -> list[Trial]:
    """Reads the trials at `out`, none if it is new. Raises `SteerError` when they are another
    tuning's, or the file is damaged."""
    path = out / _FILE
    if not path.exists():
        return []
    with reading(path, "restore it, or tune in another folder"):
        values = json.loads(read_regular(path))
        check_format(path, values, FORMAT)
        old = TuningInputs(**values["search"])
        trials = [_trial(each) for each in values["trials"]]
        _check_trials(trials)
    if changed := differences(old, inputs, ignore=_RAISED):
        raise SteerError(
            f"{out} is a tuning with other settings: {'; '.join(changed)}; "
            "use the same settings to continue it, or another folder"
        )
    return trials


def _trial(values: dict[str, Any]) -> Trial:
    values = {key: value for key, value in values.items() if key not in _SHOWN}
    check_values(_TRIAL, values)
    return Trial(**values)


def _check_trials(trials: Sequence[Trial]) -> None:
    """Raises `ValueError` where trials are not numbered from 0, or a name of a setting is none."""
    for number, trial in enumerate(trials):
        if trial.number != number:
            raise ValueError(f"trial {trial.number} stands where trial {number} should")
        if trial.state == "done" and SUMMARY not in trial.components:
            raise ValueError(f"trial {number} is done, but was not measured")


def write(out: Path, inputs: TuningInputs, trials: Sequence[Trial], tuned: Tuning | None) -> None:
    """Writes the file, whole or not at all: the trials, and what they come to."""
    shown = [each.method(inputs.method).name for each in trials]
    values = {
        "format": FORMAT,
        "steer": __version__,
        "search": inputs.model_dump(mode="json"),
        "trials": [
            asdict(each) | dict(zip(_SHOWN, (each.run, name), strict=True))
            for each, name in zip(trials, shown, strict=True)
        ],
        "front": tuned and tuned.front,
        "noise": tuned and tuned.noise,
        "recommended": tuned and tuned.recommended.number,
        "reason": tuned and tuned.reason,
        "command": tuned and command(tuned),
    }
    write_json(out / _FILE, values)


_SHOWN = ("run", "method")  # shown of a trial to a reader; they follow from the rest

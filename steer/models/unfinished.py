"""A fit that is not finished, on disk: enough to go on as if it had never been stopped."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.config import Config
from steer.errors import SteerError
from steer.files import (
    check_format,
    discard_folder,
    disk_errors,
    hold_lock,
    reading,
    refuse_existing,
    write_atomic,
    write_json,
)
from steer.models.expert import CARD, EpochLoss
from steer.version import __version__

_FORMAT = 1
_WHAT, _STATE = "fit.json", "state.safetensors"


class Progress(Config):
    """How far a fit with so many threads is: steps done, nats and completion tokens of this epoch
    so far, tokens and seconds of training, and the losses of the epochs that are over, the base
    model's first."""

    threads: int
    step: int = 0
    nats: float = 0.0
    counted: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: tuple[EpochLoss, ...] = ()

    @property
    def epoch(self) -> int:
        """Number of epochs that are over; -1 before the base model was tested."""
        return len(self.losses) - 1

    @property
    def best(self) -> int:
        """The epoch whose held-out loss is the lowest so far; 0 before the first."""
        return min(self.losses[1:], key=lambda loss: loss.held_out).epoch if self.epoch > 0 else 0


def unfinished_folder(out: Path) -> Path:
    """Folder of a fit that is to become `out`."""
    return out.with_name(f"{out.name}.unfinished")


def is_unfinished(out: Path) -> bool:
    """Whether there is a fit to go on with, that is to become `out`."""
    return (unfinished_folder(out) / _STATE).is_file()


@dataclass(frozen=True)
class Unfinished:
    """A fit's folder, held by this process. Each state is one file that replaces the one before;
    the best epoch's weights are in a file that the state names."""

    folder: Path
    what: Mapping[str, Any]

    def load(self) -> tuple[Progress, dict[str, Any]] | None:
        """Loads the progress, and the tensors by name, of the state that was kept last; None where
        there is none. Raises `SteerError` for a damaged one."""
        path = self.folder / _STATE
        if not path.exists():
            return None
        tensors, metadata = self._read(path)
        with reading(path, self.anew):
            return Progress(**json.loads(metadata["progress"])), tensors

    def keep(self, progress: Progress, tensors: Mapping[str, Any]) -> None:
        """Keeps a state, whole or not at all, in place of the one before."""
        from safetensors.torch import save

        with disk_errors(self.folder):
            if not (self.folder / _WHAT).exists():
                write_json(self.folder / _WHAT, self.what)
            metadata = {"progress": progress.model_dump_json()}
            write_atomic(self.folder / _STATE, save(dict(tensors), metadata))
            for old in self.folder.glob("epoch-*"):
                if old != self._epoch(progress.best):
                    old.unlink()

    def keep_epoch(self, epoch: int, weights: Mapping[str, Any]) -> None:
        """Keeps the weights of an epoch; the next state has to name it."""
        from safetensors.torch import save

        with disk_errors(self.folder):
            write_atomic(self._epoch(epoch), save(dict(weights)))

    def load_epoch(self, epoch: int) -> dict[str, Any]:
        """Loads the weights of an epoch that the state names."""
        return self._read(self._epoch(epoch))[0]

    def forget(self) -> None:
        """Removes the state: going on with it would lead nowhere."""
        (self.folder / _STATE).unlink(missing_ok=True)

    @property
    def anew(self) -> str:
        return f"remove {self.folder} to fit anew"

    def _epoch(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.safetensors"

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise SteerError(f"{path} is damaged: {error}; {self.anew}") from None


@contextmanager
def unfinished_fit(out: Path, what: Mapping[str, Any]) -> Iterator[Unfinished]:
    """Holds the folder of the fit that is to become `out`; `what` says what it is a fit of.

    The folder stays where the block fails after a state was kept, and goes otherwise. Raises
    `SteerError` when `out` exists, when another process holds the folder, and when it is of
    another fit.
    """
    folder = unfinished_folder(out)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    busy = f"{out} is being fitted by another process; wait for it, or give another --out"
    with hold_lock(folder, busy):
        kept = Unfinished(folder, {"format": _FORMAT, "steer": __version__, **what})
        try:
            if (out / CARD).exists():  # what a kill left that came after the expert was made
                kept.forget()
            refuse_existing(out)
            _check_same(kept)
            yield kept
            kept.forget()
        finally:
            if not is_unfinished(out):
                discard_folder(folder)


def _check_same(kept: Unfinished) -> None:
    """Raises `SteerError` where the folder is of a fit of something else."""
    path = kept.folder / _WHAT
    if not path.exists():
        return
    with reading(path, kept.anew):
        before = dict(json.loads(path.read_text("utf-8")))
        check_format(path, before, _FORMAT)
    now = json.loads(json.dumps(kept.what))
    for name in now:
        if name != "steer" and before.get(name) != now[name]:
            raise SteerError(
                f"{kept.folder} is an unfinished fit with another {name.replace('_', ' ')} "
                f"({before.get(name)!r}, now {now[name]!r}); give another --out, or {kept.anew}"
            )

"""Files and folders that are written whole or not at all."""

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from steer.errors import SteerError
from steer.values import NOT_OURS, what_is_wrong

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = ".steer-tmp-"
_STALE_SECONDS = 24 * 3600


@contextmanager
def new_folder(out: Path, needs_bytes: int = 0) -> Iterator[Path]:
    """Makes a temporary folder beside `out` that becomes `out` at the end, in one rename.

    Nothing is left when the block fails. Raises `SteerError` when `out` exists, cannot be
    made, or the disk is (or becomes) full.
    """
    refuse_existing(out)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        check_space(out.parent, needs_bytes)
        _remove_stale(out.parent)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=out.parent))
    try:
        with disk_errors(out):
            yield folder
            _publish(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """Makes a temporary file beside `out` that becomes `out` at the end, in one rename.

    Nothing is left when the block fails. Raises `SteerError` as `new_folder` does.
    """
    refuse_existing(out)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f"{_TEMPORARY}{os.getpid()}-{out.name}")
    try:
        with disk_errors(out):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            refuse_existing(out)
            os.replace(temporary, out)
            sync_folder(out.parent)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(out: Path) -> None:
    """Raises `SteerError` when there is anything at `out`."""
    if os.path.lexists(out):
        raise SteerError(f"{out} exists already; choose another place or remove it first")


def check_space(folder: Path, needs_bytes: int) -> None:
    """Raises `SteerError` when the disk of `folder` has less than `needs_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < needs_bytes:
        raise SteerError(
            f"not enough disk space in {folder}: {needs_bytes / 1e6:.0f} MB are needed, "
            f"{free / 1e6:.0f} MB are free; make room or choose another place"
        )


def discard_folder(folder: Path) -> None:
    """Removes a folder so that no other process finds a part of it: by a rename first."""
    hidden = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder.parent))
    try:
        folder.rename(hidden / folder.name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _publish(folder: Path, out: Path) -> None:
    mask = _umask()
    folder.chmod(0o777 & ~mask)  # mkdtemp makes it private, safetensors its files
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
    try:
        folder.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            refuse_existing(out)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove_stale(parent: Path) -> None:
    """Removes what a killed process left behind, once it is too old to be in use."""
    for folder in parent.glob(f"{_TEMPORARY}*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def write_atomic(path: Path, content: bytes) -> None:
    """Puts `content` at `path`, whole or not at all, and there to stay when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        # A link that somebody planted at this name is not followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Lays `values` out as a file that people read too."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # a lone surrogate then is its JSON escape


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path`, whole or not at all; its folder is made if there is none.

    Raises `SteerError` as `disk_errors` does.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json_bytes(values))


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Reads a file whole. Raises `OSError`, also for a pipe or a device, which may never end, and
    for one of more than `most` bytes."""
    # Opened without waiting: a pipe that nobody writes to would hold us here.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"it has over {most:,} bytes", str(path))
        return file.read()


@contextmanager
def reading(path: Path, advice: str) -> Iterator[None]:
    """Turns what goes wrong while the JSON file at `path` is read and understood into a
    `SteerError` that ends with the `advice`."""
    try:
        yield
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}; {advice}") from None
    except (*NOT_OURS, SteerError) as error:
        if str(path) in str(error):  # another format, said already
            raise
        reason = str(error) if isinstance(error, SteerError) else what_is_wrong(error)
        raise SteerError(f"{path} is damaged or not of steer: {reason}; {advice}") from None


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def hold_lock(folder: Path, busy: str) -> Iterator[None]:
    """Holds the lock of `folder`, which the system lets go however the process ends.

    Raises `SteerError`: `busy` when another process holds it, and when there can be no lock.
    """
    with disk_errors(folder):
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise SteerError(busy) from None
        reason = f"cannot lock {folder}: {error.strerror}; choose a local folder"
        raise SteerError(reason) from error
    try:
        yield
    finally:
        os.close(lock)


def check_format(path: Path | str, values: Mapping[str, Any], known: int) -> None:
    """Raises `SteerError` when the file at `path`, which holds `values`, is of another format."""
    if values["format"] != known:
        raise SteerError(
            f"{path} has format {values['format']!r}, this version of steer reads {known}; "
            f"use the one that wrote it: {values.get('steer')}"
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while writing `path` into a `SteerError` that says what to do."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        if _is_full(error):
            raise SteerError(
                f"no space to write {path} ({cause}); make room and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise SteerError(f"cannot write {path}: {cause}") from error
        raise


def _is_full(error: Exception) -> bool:
    """Whether an error means a full disk; libraries written in Rust and C++ say so in the message
    only."""
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return True
    return any(f"os error {number})" in str(error) for number in _NO_SPACE)

"""Files and folders that are written whole or not at all."""

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from steer.errors import SteerError
from steer.values import NOT_OURS, what_is_wrong

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = ".steer-tmp-"


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
    with _temporary_folder(out) as folder:
        yield folder
        _publish(folder, out)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """Makes a temporary file beside `out` that becomes `out` at the end, in one rename.

    Nothing is left when the block fails. Raises `SteerError` as `new_folder` does.
    """
    refuse_existing(out)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(out) as folder:
        temporary = folder / out.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        refuse_existing(out)
        os.replace(temporary, out)
        sync_folder(out.parent)


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
    with _temporary_folder(folder) as hidden:
        folder.rename(hidden / folder.name)


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


@contextmanager
def _temporary_folder(out: Path) -> Iterator[Path]:
    """Makes a folder beside `out`, to be removed at the end; its lock says that it is in use."""
    with disk_errors(out):
        _remove_stale(out.parent)
        folder, lock = _new_temporary(out.parent)
    try:
        with disk_errors(out):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _new_temporary(parent: Path) -> tuple[Path, int]:
    """Makes a folder and locks it; another one where it was taken for stale before it had its
    lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            if _locks(lock) is not False and folder.is_dir():
                return folder, lock
            os.close(lock)


def _remove_stale(parent: Path) -> None:
    """Removes what killed processes left behind: nobody holds its lock. Age says nothing, as a job
    may take days. What cannot be locked is left alone."""
    for folder in parent.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if _locks(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _locks(descriptor: int) -> bool | None:
    """Locks an open folder; False where another process holds it, None where there are no
    locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


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
        if not _is_at(folder / "lock", lock):  # who held it before took the folder away
            raise SteerError(busy)
        yield
    finally:
        os.close(lock)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether what is open is still what is at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


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

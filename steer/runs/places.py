"""Places where a run is kept: a local folder, or an address that fsspec knows, such as
s3://bucket/run."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from steer.errors import SteerError
from steer.files import disk_errors, hold_lock, read_regular, sync_folder, write_atomic

_TEMPORARY = ".*.tmp"
_WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Kinds of stores where an object appears whole or not at all."""

_CONFLICTS = 10  # S3's answer when two create an object at once: the request is to be made again


class Place(Protocol):
    """Holds a run's files by name, such as "run.json" or "rounds/000000.jsonl"."""

    @property
    def path(self) -> Path | str:
        """Name that a user calls the place by."""
        ...

    def where(self, name: str) -> str:
        """Full name of a file, for messages to a user."""
        ...

    def has(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes:
        """Reads a file whole. Raises `OSError` when it cannot."""
        ...

    def rounds(self) -> list[str]:
        """Lists the names in "rounds/", without this prefix; raises `OSError` when there is no such
        folder."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Puts a new file there, whole or not at all, to stay when this returns. Raises
        `SteerError` when it cannot."""
        ...

    def refuse_foreign(self) -> None:
        """Raises `SteerError` when something is there that is no run."""
        ...

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps other writers away. Nothing is left of a new run when a `SteerError` comes before
        its first round."""
        ...


def place_of(address: Path | str) -> Place:
    """Finds the place at an address: a local folder for a path or file://, else a bucket. Raises
    `SteerError` for an address of a kind that is not known or needs a package that is not
    installed."""
    text = str(address)
    if isinstance(address, Path) or "://" not in text:
        return Folder(Path(address))
    if text.startswith(("file://", "local://")):
        return Folder(Path(text.partition("://")[2]))
    return Bucket(text.rstrip("/"))


class Folder:
    """A local folder: one writer at a time by its lock, files by rename once they are on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self, name: str) -> str:
        return str(self.path / name)

    def has(self, name: str) -> bool:
        # os.path: to it, a name that cannot be looked up is one that is not there.
        return os.path.isfile(self.path / name)

    def read(self, name: str) -> bytes:
        return read_regular(self.path / name)

    def rounds(self) -> list[str]:
        return os.listdir(self.path / "rounds")

    def write(self, name: str, content: bytes) -> None:
        with disk_errors(self.path / name):
            write_atomic(self.path / name, content)
            if name == "run.json":
                sync_folder(self.path.absolute().parent)

    def refuse_foreign(self) -> None:
        """Accepts also a folder with no more in it than a run makes before its run.json."""
        if not os.path.exists(self.path):
            return
        if not self.path.is_dir():
            raise SteerError(f"{self.path} is a file; choose another folder for the run")
        with disk_errors(self.path):
            leftovers = {leftover.name for leftover in self.path.glob(_TEMPORARY)}
            names = set(os.listdir(self.path)) - leftovers
        if names - {"lock", "rounds"} or any((self.path / "rounds").glob("*")):
            raise _foreign(self.path)

    @contextmanager
    def hold(self) -> Iterator[None]:
        new = not os.path.exists(self.path)
        with disk_errors(self.path):
            (self.path / "rounds").mkdir(parents=True, exist_ok=True)
        busy = (
            f"another process is writing the run {self.path}; wait for it or choose another folder"
        )
        with hold_lock(self.path, busy):
            try:
                with disk_errors(self.path):
                    self._clear_leftovers()
                yield
            except SteerError:
                # A mistake found before the first round must not hinder its correction.
                if new and not any((self.path / "rounds").glob("*.jsonl")):
                    shutil.rmtree(self.path, ignore_errors=True)
                raise

    def _clear_leftovers(self) -> None:
        for leftover in [*self.path.glob(_TEMPORARY), *(self.path / "rounds").glob(_TEMPORARY)]:
            leftover.unlink()


class Bucket:
    """A place at an address: files appear by one exclusive create each, which needs no lock.

    Where the store offers it (S3, Google Cloud Storage: a conditional PUT), of two writers of a
    round one is refused, so that a round is there once and stays as it was written. Other stores
    may show a file while it is written: there it is written under another name and moved, which
    file systems do at once.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.path = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise SteerError(f"{address} needs a package: {_one_line(error)}") from None
        except Exception as error:  # each kind of store has errors of its own
            raise SteerError(f"{address} is no address that is known: {_one_line(error)}") from None
        protocol = self._files.protocol
        kinds = {protocol} if isinstance(protocol, str) else set(protocol)
        self._whole = not kinds.isdisjoint(_WHOLE)

    def where(self, name: str) -> str:
        return f"{self.path}/{name}"

    def has(self, name: str) -> bool:
        with self._errors():
            return bool(self._files.isfile(self._at(name)))

    def read(self, name: str) -> bytes:
        with self._errors():
            return bytes(self._files.cat_file(self._at(name)))

    def rounds(self) -> list[str]:
        with self._errors():
            self._files.invalidate_cache()
            try:
                names = self._files.ls(self._at("rounds"), detail=False)
            except FileNotFoundError:
                return []
        return [str(name).rpartition("/")[2] for name in names]

    def write(self, name: str, content: bytes) -> None:
        try:
            self._create(name, content)
        except FileExistsError:
            # A PUT whose answer was lost, or another writer with the same: either way it is there.
            if self.read(name) != content:
                raise SteerError(
                    f"{self.where(name)} was written by another process meanwhile; let that one "
                    "finish the run, or stop it and run the same command again"
                ) from None

    def _create(self, name: str, content: bytes) -> None:
        for last in (False,) * _CONFLICTS + (True,):
            with self._errors():
                try:
                    if self._whole:
                        self._files.pipe_file(self._at(name), content, mode="create")
                    else:
                        self._move_in(name, content)
                    return
                except FileNotFoundError as error:  # the bucket is missing
                    raise SteerError(f"cannot write {self.path}: {_one_line(error)}") from None
                except OSError as error:
                    if last or "ConditionalRequestConflict" not in str(error):
                        raise
            time.sleep(0.1)

    def _move_in(self, name: str, content: bytes) -> None:
        """Writes a file under another name, and moves it to its own once it is whole."""
        if self._files.exists(self._at(name)):
            raise FileExistsError(name)
        folder, _, last = self._at(name).rpartition("/")
        self._files.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{last}.{os.getpid()}.tmp"
        try:
            self._files.pipe_file(temporary, content)
            self._files.mv(temporary, self._at(name))
        finally:
            with suppress(Exception):
                self._files.rm_file(temporary)

    def refuse_foreign(self) -> None:
        with self._errors():
            self._files.invalidate_cache()
            found = self._files.exists(self._root) and self._files.find(self._root, maxdepth=1)
            if any(not fnmatch(str(each).rpartition("/")[2], _TEMPORARY) for each in found or ()):
                raise _foreign(self.path)

    @contextmanager
    def hold(self) -> Iterator[None]:
        yield

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the errors of each kind of store into one line; only those that mean something
        pass."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, SteerError):
            raise
        except Exception as error:
            raise SteerError(f"cannot use {self.path}: {_one_line(error)}") from error


def _foreign(path: Any) -> SteerError:
    return SteerError(f"{path} exists and is no run folder; choose another folder for the run")


def reason(error: OSError) -> str:
    """Text of an error, without the name of the file."""
    return error.strerror or _one_line(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

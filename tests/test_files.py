import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from steer.errors import SteerError
from steer.files import (
    check_format,
    hold_lock,
    new_file,
    new_folder,
    reading,
    write_atomic,
    write_json,
)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_whole_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        (folder / "a").write_text("x")
        assert not out.exists()
    assert (out / "a").read_text() == "x"
    assert left_in(out.parent) == ["out"]


def test_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "file").touch()
    with new_folder(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").touch(mode=0o600)

    def mode(name: str) -> int:
        return (tmp_path / name).stat().st_mode

    assert mode("out") == mode("out/inner") == mode("usual")
    assert mode("out/inner/file") == mode("usual/file")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
        raise error
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_exists_is_refused_and_untouched(tmp_path: Path, make) -> None:
    out = tmp_path / "out"
    make(out)
    with pytest.raises(SteerError, match="exists already"), new_folder(out):
        raise AssertionError("must not begin")
    assert left_in(tmp_path) == ["out"]


def test_what_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SteerError, match="exists already"), new_folder(out) as folder:
        (folder / "mine").touch()
        out.mkdir()
        (out / "theirs").touch()
    assert left_in(out) == ["theirs"]
    assert left_in(tmp_path) == ["out"]


def test_too_little_space_is_found_before(tmp_path: Path) -> None:
    needed = shutil.disk_usage(tmp_path).free * 2
    found = r"not enough disk space .* MB are needed, .* MB are free"
    with pytest.raises(SteerError, match=found), new_folder(tmp_path / "out", needs_bytes=needed):
        raise AssertionError("must not begin")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EFBIG, os.strerror(errno.EFBIG), "name"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_clear_error(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(SteerError, match="no space to write"), new_folder(tmp_path / "out"):
        raise error
    assert left_in(tmp_path) == []


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), new_folder(tmp_path / "out"):
        raise RuntimeError("mine")


def test_a_file_in_the_way_of_the_parent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SteerError, match="cannot write"), new_folder(tmp_path / "file" / "out"):
        pass


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_kept(tmp_path: Path) -> None:
    """A lock tells them apart, not their age: a job may take days."""
    dead = tmp_path / ".steer-tmp-dead"
    (dead / "part").mkdir(parents=True)
    with new_folder(tmp_path / "slow") as slow:
        assert not dead.exists()
        os.utime(slow, (0, 0))
        with new_folder(tmp_path / "folder"), new_file(tmp_path / "file") as file:
            file.touch()
        assert slow.is_dir()
    assert left_in(tmp_path) == ["file", "folder", "slow"]


def test_a_link_is_no_leftover(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "text").mkdir(parents=True)
    (tmp_path / ".steer-tmp-link").symlink_to(mine)
    with new_folder(tmp_path / "out"):
        pass
    assert left_in(mine) == ["text"]


def test_one_holder_of_a_lock_at_a_time(tmp_path: Path) -> None:
    busy = pytest.raises(SteerError, match="busy")
    with hold_lock(tmp_path, "busy"), busy, hold_lock(tmp_path, "busy"):
        pass
    with hold_lock(tmp_path, "busy"):
        pass


def test_another_format_names_both_and_who_wrote_it(tmp_path: Path) -> None:
    check_format(tmp_path, {"format": 3}, 3)
    with pytest.raises(SteerError, match=r"has format 4, this version of steer reads 3; .*: 9\.1"):
        check_format(tmp_path, {"format": 4, "steer": "9.1"}, 3)


def test_json_is_whole_readable_and_any_text(tmp_path: Path) -> None:
    """A file name that is no UTF-8 becomes a lone surrogate, which JSON can only escape."""
    path = tmp_path / "deep" / "a.json"
    values = {"name": "naïve \udcff", "list": [1, None]}
    write_json(path, values)
    assert json.loads(path.read_bytes()) == values
    assert "naïve" in path.read_text("utf-8")
    assert left_in(path.parent) == ["a.json"]


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "{}", "\udcff"])
def test_a_damaged_file_is_one_line_with_advice(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with (
        pytest.raises(SteerError, match=r"a\.json is damaged .*; restore it$"),
        reading(path, "restore it"),
    ):
        json.loads(path.read_bytes())["key"]
    path.unlink()
    with pytest.raises(SteerError, match=r"cannot read .*; again$"), reading(path, "again"):
        path.read_bytes()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """Somebody who may write to the folder puts a link where a temporary file will be."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    planted = tmp_path / f".file.{os.getpid()}.tmp"
    planted.symlink_to(precious)
    write_atomic(tmp_path / "file", b"new")
    assert (precious.read_text(), (tmp_path / "file").read_text()) == ("mine", "new")
    assert left_in(tmp_path) == ["file", "precious"]
    assert not (tmp_path / "file").is_symlink()

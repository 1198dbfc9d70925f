import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from steer.config import Guidance, RunConfig, Sources
from steer.errors import SteerError
from steer.files import write_atomic
from steer.runs.places import Folder
from steer.runs.records import Record, Reject
from steer.runs.store import Run, open_store
from tests.stub import FIELDS

CONFIG = RunConfig(n=2)
SOURCES = Sources(
    engine="stub",
    prompt="Write:",
    model_fingerprint="m",
    adapter_fingerprint="a",
    data_fingerprint="d",
    base="base",
    real="real.jsonl",
)
ROUNDS: list[list[Record | Reject]] = [
    [Record(**FIELDS), Reject(**FIELDS | {"id": "rec:4"}, reason="duplicate", of="rec:3")],
    [Reject(**FIELDS | {"id": "rec:5", "round": 1}, reason="short")],
]


def write_run(out: Path) -> None:
    with open_store(out, CONFIG, SOURCES) as store:
        for round, attempts in enumerate(ROUNDS):
            store.commit(round, attempts)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path / "deep" / "run")
    run = Run.open(tmp_path / "deep" / "run")
    assert (run.config, run.sources, run.rounds) == (CONFIG, SOURCES, 2)
    assert run.records == (ROUNDS[0][0],)
    assert run.rejects == (ROUNDS[0][1], ROUNDS[1][0])
    assert run.reasons == {"duplicate": 1, "short": 1}
    assert run.reasons_in_words == "1 duplicate, 1 short"
    assert run.counts == {None: 1}
    assert not run.complete
    with open_store(run.path, CONFIG, SOURCES) as store:
        assert list(store.rounds()) == ROUNDS


def test_what_differs_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    before = files(tmp_path)
    other = RunConfig(n=1, seed=7, guidance=Guidance(eta=0.5))
    with pytest.raises(SteerError) as caught, open_store(tmp_path, other, SOURCES):
        pass
    for phrase in (
        "n is 2 there and 1 now, and may only grow",
        "guidance.eta is 0.2 there and 0.5 now",
        "seed is 0 there and 7 now",
    ):
        assert phrase in str(caught.value)
    assert "gamma" not in str(caught.value)
    changed = Sources(**SOURCES.model_dump() | {"adapter_fingerprint": "b"})
    with (
        pytest.raises(SteerError, match="adapter_fingerprint is 'a' there and 'b' now"),
        open_store(tmp_path, CONFIG, changed),
    ):
        pass
    assert files(tmp_path) == before


def test_names_may_differ(tmp_path: Path) -> None:
    write_run(tmp_path)
    moved = Sources(**SOURCES.model_dump() | {"base": "elsewhere", "real": "/moved/real.jsonl"})
    with open_store(tmp_path, CONFIG, moved) as store:
        assert len(list(store.rounds())) == 2


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_store(tmp_path, CONFIG, SOURCES):
        with (
            pytest.raises(SteerError, match="another process"),
            open_store(tmp_path, CONFIG, SOURCES),
        ):
            pass
        assert not Run.open(tmp_path).records  # reading needs no lock
    with open_store(tmp_path, CONFIG, SOURCES):
        pass


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    notes, other, damaged, file = (tmp_path / name for name in ("notes", "other", "bad", "file"))
    for folder in (notes, other, damaged):
        folder.mkdir()
    (notes / "notes.txt").write_text("mine")
    (other / "run.json").write_text('{"name": "another program\'s"}')
    (damaged / "run.json").write_text("{")
    file.write_text("a file")
    before = files(tmp_path)
    for path, message in [
        (notes, "no run folder"),
        (other, "damaged or not of a steer run"),
        (damaged, "damaged or not of a steer run"),
        (file, "is a file"),
        (file / "below", "cannot write"),
        (tmp_path / ("long" * 100), "cannot write"),
    ]:
        with pytest.raises(SteerError, match=message), open_store(path, CONFIG, SOURCES):
            pass
    assert files(tmp_path) == before


def test_a_run_that_begins_while_it_is_looked_for_is_no_foreign_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "run")
    looks, has = iter([False]), Folder.has
    monkeypatch.setattr(Folder, "has", lambda at, name: next(looks, has(at, name)))
    with open_store(tmp_path / "run", CONFIG, SOURCES) as store:
        assert list(store.rounds()) == ROUNDS
    assert next(looks, "used") == "used"


def test_a_run_of_another_format_names_the_version(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2, "steer": "9.9"}))
    with pytest.raises(SteerError, match=r"format 2.*9\.9"):
        Run.open(tmp_path)


def test_what_a_kill_before_run_json_leaves_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    (tmp_path / "lock").touch()
    (tmp_path / ".run.json.123.tmp").write_text("{")
    write_run(tmp_path)
    assert len(Run.open(tmp_path).records) == 1


def test_leftovers_of_a_write_are_ignored_then_cleared(tmp_path: Path) -> None:
    write_run(tmp_path)
    leftover = tmp_path / "rounds" / ".000002.jsonl.99.tmp"
    leftover.write_text('{"round": 2')
    assert Run.open(tmp_path).rounds == 2
    with open_store(tmp_path, CONFIG, SOURCES) as store:
        assert len(list(store.rounds())) == 2
    assert not leftover.exists()


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_last_line(path: Path) -> None:
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:-2]) + b"\n")


def damage_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"line", b"lime", 1))


def damage_all(path: Path) -> None:
    path.write_bytes(b"")


def damage_list(path: Path) -> None:
    path.write_bytes(b"[]\n")


def damage_swap(path: Path) -> None:
    path.write_bytes((path.parent / "000001.jsonl").read_bytes())


@pytest.mark.parametrize(
    "damage",
    [damage_cut, damage_last_line, damage_bytes, damage_all, damage_list, damage_swap],
)
def test_a_damaged_round_is_an_error(tmp_path: Path, damage: Any) -> None:
    write_run(tmp_path)
    damage(tmp_path / "rounds" / "000000.jsonl")
    with pytest.raises(SteerError, match=r"000000\.jsonl is damaged"):
        Run.open(tmp_path)


def test_a_lost_round_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "rounds" / "000000.jsonl").unlink()
    with pytest.raises(SteerError, match=r"cannot read .*000000\.jsonl"):
        Run.open(tmp_path)


def test_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / ("long" * 100)):
        with pytest.raises(SteerError, match="is no run"):
            Run.open(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with open_store(tmp_path, CONFIG, SOURCES) as store:
        store.commit(0, ROUNDS[0])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(SteerError, match="no space to write"):
                store.commit(1, ROUNDS[1])
        assert Run.open(tmp_path).rounds == 1
        assert not list((tmp_path / "rounds").glob(".*"))
        store.commit(1, ROUNDS[1])
    assert Run.open(tmp_path).rounds == 2


def test_an_interrupted_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert files(tmp_path) == {"file": b"old"}


def test_what_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    bad = Record(**FIELDS | {"gamma": float("nan")})
    with open_store(tmp_path, CONFIG, SOURCES) as store, pytest.raises(ValueError, match="JSON"):
        store.commit(0, [bad])
    assert Run.open(tmp_path).rounds == 0

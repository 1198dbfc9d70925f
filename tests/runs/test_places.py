"""Runs at an address: one object a round, created once, whoever is first."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry as registered

from steer.cli.main import main
from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.generation import RunProgress, generate
from steer.runs.places import Folder, place_of
from steer.runs.store import Run, open_store
from tests import stub
from tests.runs.test_generation import rounds
from tests.runs.test_store import CONFIG, ROUNDS, SOURCES

REAL = stub.corpus()
SETTINGS = RunConfig(n=40, round_size=12, rows_per_panel=4)


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def make(out: Path | str, config: RunConfig = SETTINGS, **settings: Any) -> Run:
    return generate(config, REAL, stub.StubExpert(), stub.StubEngine(REAL), out, **settings)


def objects(files: Any, under: str) -> dict[str, bytes]:
    return {Path(name).name: files.cat_file(name) for name in files.find(under)}


def test_a_run_at_an_address_is_the_run_in_a_folder(tmp_path: Path, memory: Any) -> None:
    there, here = make("memory://bucket/run"), make(tmp_path / "run")
    assert there.path == "memory://bucket/run"
    assert there.records == here.records
    assert objects(memory, "/bucket/run/rounds") == rounds(tmp_path / "run")
    assert sorted(memory.ls("/bucket/run", detail=False)) == [
        "/bucket/run/rounds",
        "/bucket/run/run.json",
    ]


def test_a_stopped_run_at_an_address_continues(tmp_path: Path, memory: Any) -> None:
    def stop(progress: RunProgress) -> None:
        if progress.accepted > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("memory://bucket/run", on_progress=stop)
    assert 0 < len(Run.open("memory://bucket/run").records) < 40
    assert make("memory://bucket/run").records == make(tmp_path / "run").records


def test_the_second_writer_of_another_round_is_refused(memory: Any) -> None:
    """Each takes itself for the only one; what is there stays as it was written first."""
    with (
        open_store("memory://run", CONFIG, SOURCES) as one,
        open_store("memory://run", CONFIG, SOURCES) as two,
    ):
        one.commit(0, ROUNDS[0])
        with pytest.raises(SteerError, match="written by another process meanwhile"):
            two.commit(0, ROUNDS[0][:1])
        two.commit(0, ROUNDS[0])  # the same: as when the answer to a PUT was lost
    assert Run.open("memory://run").records == (ROUNDS[0][0],)


def test_two_drivers_at_once_make_one_run(tmp_path: Path, memory: Any) -> None:
    """The rounds are the same whoever makes them, so both end well, and nothing is doubled."""
    made: list[Run] = []
    drivers = [threading.Thread(target=lambda: made.append(make("memory://run"))) for _ in "ab"]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert len(made) == 2
    assert objects(memory, "/run/rounds") == rounds(make(tmp_path / "run").path)


def test_other_settings_and_foreign_objects_are_refused(memory: Any) -> None:
    make("memory://bucket/run")
    before = objects(memory, "/")
    with pytest.raises(SteerError, match="n is 40 there and 39 now"):
        make("memory://bucket/run", RunConfig(**dict(SETTINGS) | {"n": 39}))
    memory.pipe_file("/bucket/notes/mine.txt", b"mine")
    with pytest.raises(SteerError, match="is no run folder"):
        make("memory://bucket/notes")
    assert objects(memory, "/") == before | {"mine.txt": b"mine"}


def test_damage_and_loss_are_found(memory: Any) -> None:
    make("memory://run")
    content = memory.cat_file("/run/rounds/000001.jsonl")
    memory.pipe_file("/run/rounds/000001.jsonl", content[:-9])
    with pytest.raises(SteerError, match=r"memory://run/rounds/000001\.jsonl is damaged"):
        Run.open("memory://run")
    memory.rm_file("/run/rounds/000001.jsonl")
    with pytest.raises(SteerError, match=r"cannot read memory://run/rounds/000001\.jsonl"):
        Run.open("memory://run")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense://bucket/run", "nonsense://bucket/run is no address that is known"),
        ("s3://bucket/run", "s3://bucket/run needs a package: Install s3fs"),
        ("memory://nowhere", "memory://nowhere is no run"),
    ],
)
def test_addresses_that_cannot_be_used(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(registered, "s3", raising=False)  # which other tests use
    with pytest.raises(SteerError, match=message):
        Run.open(address)


def test_what_a_store_cannot_do_is_said(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no credentials\nwere found")

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(SteerError, match="cannot use memory://run: no credentials were found"):
        make("memory://run")


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    place = place_of(f"file://{tmp_path}/run")
    assert isinstance(place, Folder)
    assert place.path == tmp_path / "run"


def test_commands_read_runs_at_addresses(
    tmp_path: Path, memory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    make("memory://bucket/run")
    assert main(["show", "memory://bucket/run"]) == 0
    assert main(["export", "memory://bucket/run", str(tmp_path / "records.jsonl")]) == 0
    assert "40 of 40 records, complete" in capsys.readouterr().out
    assert len((tmp_path / "records.jsonl").read_text("utf-8").splitlines()) == 40
    assert main(["show", "memory://bucket/nothing"]) == 2
    assert "memory://bucket/nothing is no run" in capsys.readouterr().err


class Plain(LocalFileSystem):
    """A file system of another kind: what is written is there at once, and in pieces."""

    protocol = "plain"
    dies_after: int | None = None

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        with open(self._strip_protocol(path), "wb") as file:
            file.write(value[: self.dies_after])
        if self.dies_after is not None:
            raise KeyboardInterrupt  # a kill, as far as the file goes

    def rm_file(self, path: str) -> None:
        if self.dies_after is None:
            super().rm_file(path)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> type[Plain]:
    fsspec.register_implementation("plain", Plain, clobber=True)
    monkeypatch.setattr(Plain, "dies_after", None)
    Plain.clear_instance_cache()
    return Plain


def test_a_round_is_whole_also_where_the_store_does_not_promise_it(
    tmp_path: Path, plain: type[Plain], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"plain://{tmp_path}/run"
    for name, committed in (
        ("run.json", 0),
        ("rounds/000000.jsonl", 1),
        ("rounds/000001.jsonl", 2),
    ):
        for bytes_written in (0, 1, 40):
            monkeypatch.setattr(plain, "dies_after", bytes_written)
            with pytest.raises(KeyboardInterrupt), open_store(address, CONFIG, SOURCES) as store:
                for round in range(len(list(store.rounds())), 2):
                    store.commit(round, ROUNDS[round])
            assert not (tmp_path / "run" / name).exists()
        monkeypatch.setattr(plain, "dies_after", None)
        with open_store(address, CONFIG, SOURCES) as store:
            assert len(list(store.rounds())) == max(0, committed - 1)
            if committed:
                store.commit(committed - 1, ROUNDS[committed - 1])
    assert Run.open(address).records == (ROUNDS[0][0],)
    assert Run.open(address).rounds == 2


@pytest.mark.parametrize(
    "address",
    [
        "reference://x",
        "zip://[",
        "zip://x::nonsense://y",
        "://",
        "http://[",
        "memory://",
        "simplecache::",
        "file://\0",
        "a\0b",
        "tar://x::file:///nowhere.tar",
        "data://x",
        "x" * 5000,
        "\udcff",
        "file://\udcff",
    ],
)
def test_any_address_is_a_run_or_one_line(address: str) -> None:
    with pytest.raises(SteerError) as raised:
        Run.open(address)
    assert "\n" not in str(raised.value)

"""A run that is stopped, however and whenever, and continued equals one that was not."""

import multiprocessing
import os
import random
import resource
import signal
import stat
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.generation import generate
from steer.runs.store import Run
from tests import stub

REAL = stub.corpus()
CONFIG = RunConfig(n=40, round_size=12, rows_per_panel=4)
KILLS = 25
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["steer.runs.generation"])


def work(out: Path, pipe: Connection, prepare: Callable[..., None], *settings: object) -> None:
    """What a child process does: one run, with its disk or limits tampered with."""
    # A shell's background jobs ignore Ctrl-C, and their children would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine = stub.StubEngine(REAL)
    prepare(engine, pipe, *settings)
    try:
        generate(CONFIG, REAL, stub.StubExpert(), engine, out)
        pipe.send("done")
    except SteerError as error:
        pipe.send(str(error))
    except KeyboardInterrupt:
        pipe.send("interrupted")


def slowly(engine: stub.StubEngine, pipe: Connection) -> None:
    """Takes about as long for a round's records as for its write, which a kill then often hits."""
    engine.pause = lambda: time.sleep(0.001)
    for name in ("fsync", "replace"):
        setattr(os, name, pausing(getattr(os, name), 0.006))
    pipe.send("ready")


def pausing(call: Callable[..., None], seconds: float) -> Callable[..., None]:
    def paused(*args: object) -> None:
        time.sleep(seconds)
        call(*args)

    return paused


def die_at(engine: stub.StubEngine, pipe: Connection, event: int, half: bool) -> None:
    """SIGKILL before the disk operation number `event`; with `half`, of the content not yet
    synced only half has reached the disk."""
    events = iter(range(1_000_000))

    def dying(call: Callable[..., None]) -> Callable[..., None]:
        def operate(*args: object) -> None:
            if next(events) == event:
                if half and isinstance(args[0], int):
                    keep_half(args[0])
                os.kill(os.getpid(), signal.SIGKILL)
            call(*args)

        return operate

    for name in ("fsync", "replace"):
        setattr(os, name, dying(getattr(os, name)))


def keep_half(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        os.ftruncate(descriptor, status.st_size // 2)


def limit_files(engine: stub.StubEngine, pipe: Connection, rounds: int, size: int) -> None:
    """From a round on, no file may grow beyond `size` bytes, as when a disk is full."""

    def limit() -> None:
        if engine.calls >= rounds:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    engine.pause = limit
    limit()


def wait_in_round(engine: stub.StubEngine, pipe: Connection) -> None:
    """Says when the second round is being generated, and stays in it."""

    def pause() -> None:
        if engine.calls == 2:
            pipe.send("in round")
            time.sleep(600)

    engine.pause = pause


def start(
    out: Path, prepare: Callable[..., None], *settings: object
) -> tuple[multiprocessing.Process, Connection]:
    here, there = CHILDREN.Pipe()
    child = CHILDREN.Process(target=work, args=(out, there, prepare, *settings), daemon=True)
    child.start()
    there.close()
    return child, here


def rounds(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((path / "rounds").iterdir())]


def finish(out: Path) -> Run:
    return generate(CONFIG, REAL, stub.StubExpert(), stub.StubEngine(REAL), out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing stopped."""
    return finish(tmp_path_factory.mktemp("runs") / "whole")


def check_stopped(out: Path, whole: Run) -> None:
    """What a stopped process left is the beginning of the whole run, and no more."""
    if (out / "run.json").exists():
        stopped = Run.open(out)
        assert stopped.records == whole.records[: len(stopped.records)]
        assert stopped.rejects == whole.rejects[: len(stopped.rejects)]


def check_finished(out: Path, whole: Run) -> None:
    run = finish(out)
    assert run.records == whole.records
    assert len({record.id for record in run.records}) == CONFIG.n
    assert rounds(out) == rounds(whole.path)
    assert not list(out.rglob("*.tmp"))


def test_killed_at_random_moments(tmp_path: Path, whole: Run) -> None:
    rng = random.Random(0)
    kills = runs = 0
    while kills < KILLS:
        out = tmp_path / f"run{runs}"
        runs += 1
        finished = False
        while not finished and kills < KILLS:
            child, pipe = start(out, slowly)
            assert pipe.recv() == "ready"
            finished = pipe.poll(rng.uniform(0, 0.12))
            child.kill()
            child.join()
            kills += child.exitcode == -signal.SIGKILL and not finished
            check_stopped(out, whole)
        check_finished(out, whole)


@pytest.mark.parametrize("half", [False, True])
def test_killed_at_each_step_of_a_write(tmp_path: Path, whole: Run, half: bool) -> None:
    """Four operations make a new run's identity, three commit a round; two rounds are tried,
    one after the other in one run that is killed again and again."""
    for event in range(10):
        out = tmp_path / f"run{event}"
        for _ in range(2):
            child, _ = start(out, die_at, event, half)
            child.join()
            assert child.exitcode == -signal.SIGKILL
            check_stopped(out, whole)
        check_finished(out, whole)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_disk_full_then_room(tmp_path: Path, whole: Run, done: int) -> None:
    """Full from the start, in the first round, and in the third."""
    child, pipe = start(tmp_path / "run", limit_files, done, 500)
    assert "no space to write" in pipe.recv()
    child.join()
    check_stopped(tmp_path / "run", whole)
    assert len(list((tmp_path / "run").glob("rounds/*"))) == max(0, done - 1)
    check_finished(tmp_path / "run", whole)


def test_the_second_process_is_refused(tmp_path: Path, whole: Run) -> None:
    child, pipe = start(tmp_path / "run", wait_in_round)
    assert pipe.recv() == "in round"
    with pytest.raises(SteerError, match="another process is writing"):
        finish(tmp_path / "run")
    child.kill()
    child.join()
    check_finished(tmp_path / "run", whole)


def test_ctrl_c(tmp_path: Path, whole: Run) -> None:
    child, pipe = start(tmp_path / "run", wait_in_round)
    assert pipe.recv() == "in round"
    os.kill(child.pid or 0, signal.SIGINT)
    assert pipe.recv() == "interrupted"
    child.join()
    assert Run.open(tmp_path / "run").rounds == 1
    check_finished(tmp_path / "run", whole)

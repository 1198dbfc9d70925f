"""What ends a command with Ray workers ends all of it, with a line that says so."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steer.runs.store import Run
from tests.tiny import TEXTS

pytest.importorskip("ray")
PATIENCE = 900.0


class Driver:
    """The command in a process of its own. All processes that come of it carry its mark."""

    def __init__(self, expert: Path, folder: Path) -> None:
        self.out, self.mark = folder / "run", f"STEER_TEST_MARK={uuid.uuid4()}"
        (folder / "real.txt").write_text("\n".join(TEXTS), "utf-8")
        command = [sys.executable, "-m", "steer", "generate", str(expert)]
        command += ["--real", str(folder / "real.txt"), "--out", str(self.out), "--n", "100000"]
        command += ["--min-chars", "0", "--round-size", "8", "--lag", "2", "--threads", "1"]
        command += ["--ray", "local", "--workers", "1"]
        name, _, value = self.mark.partition("=")
        settings = {name: value, "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            command,
            env=os.environ | settings | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def rounds(self) -> int:
        return len(list((self.out / "rounds").glob("*.jsonl")))

    def processes(self) -> dict[int, str]:
        """Those that are there, with their programs; none that has ended and waits for its
        parent."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (
                        (place / "cmdline").read_bytes().split(b"\0")[0].decode()
                    )
        return found

    def end(self) -> tuple[int, str]:
        """Waits for the end; gives the exit code and the last lines of standard error."""
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture
def driver(tiny_expert: Path, tmp_path: Path) -> Iterator[Driver]:
    started = Driver(tiny_expert, tmp_path)
    try:
        wait_for(lambda: started.rounds() > 0 or started.process.poll() is not None)
        assert started.process.poll() is None, started.end()
        yield started
    finally:
        for pid in started.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_sigterm_ends_the_command_and_all_its_processes(driver: Driver) -> None:
    there = driver.processes()
    assert sum(name.endswith("/raylet") for name in there.values()) == 1 < len(there)
    driver.process.send_signal(signal.SIGTERM)
    code, said = driver.end()
    assert code == 143, said
    assert said.splitlines()[-1].startswith("stopped: the finished rounds are in "), said
    assert "Traceback" not in said and "*** SIGTERM" not in said
    wait_for(lambda: not driver.processes())
    assert Run.open(driver.out).rounds == driver.rounds() > 0


def test_a_killed_driver_takes_its_processes_along(driver: Driver) -> None:
    driver.process.kill()
    driver.process.wait()
    wait_for(lambda: not driver.processes())
    assert Run.open(driver.out).rounds == driver.rounds() > 0


def test_a_killed_raylet_is_said(driver: Driver) -> None:
    (raylet,) = (pid for pid, name in driver.processes().items() if name.endswith("/raylet"))
    os.kill(raylet, signal.SIGKILL)
    code, said = driver.end()
    assert code == 2, said
    (line,) = (line for line in said.splitlines() if line.startswith("error"))
    assert "Ray" in line and "rounds that were made are there" in line
    wait_for(lambda: not driver.processes())
    assert Run.open(driver.out).rounds == driver.rounds() > 0

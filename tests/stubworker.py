"""What workers in other processes load instead of a model."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from steer.errors import SteerError
from tests import stub


@dataclass(frozen=True)
class StubSpec:
    """A stub engine that pauses `seconds` a record. Each worker leaves its process id in the
    folder `pids`, if there is one, and has loaded when so many `together` have begun to; with
    `broken` it cannot load, "exit" ends the process."""

    seconds: float = 0.0
    pids: Path | None = None
    together: int = 1
    broken: str = ""
    adapter: str = "adapter0"
    device: str = "cpu"
    gpus: int = 1
    threads: int | None = None

    def adapter_fingerprint(self) -> str:
        return self.adapter

    def load(self) -> stub.StubEngine:
        if self.pids:
            (self.pids / str(os.getpid())).touch()
            until = time.monotonic() + 120
            while len(list(self.pids.iterdir())) < self.together and time.monotonic() < until:
                time.sleep(0.01)
        if self.broken == "exit":
            os._exit(1)
        if self.broken:
            raise SteerError(self.broken)
        return stub.StubEngine(stub.corpus(), lambda: time.sleep(self.seconds))

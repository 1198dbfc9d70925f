"""Peak memory of one kind of run, each in a process of its own.

    python -m benchmarks.memory FOLDER steer|plain|plain_merged ROWS TOKENS

loads the engine for the lab in FOLDER, does one run and prints its figures as JSON.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.lab import Lab
from benchmarks.ours import Ours
from benchmarks.pairs import Load
from steer.quiet import quiet_logs

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Peak:
    """Bytes of memory: resident once the engine was loaded, and the most while it generated (both
    with the weights, and on a CPU with the libraries too). What loading itself needs is left
    out."""

    loaded: int
    peak: int


def peak(lab: Lab, kind: str, load: Load) -> Peak:
    """Measures the peak of one run of `kind` in a new process: "steer", "plain" from the one copy
    of the weights that STEER reads, or "plain_merged" with a second one that has the adapter in
    it."""
    command = [sys.executable, "-m", "benchmarks.memory", str(lab.folder), kind]
    command += [str(load.rows), str(load.tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    folder, kind, rows, tokens = sys.argv[1:]
    lab = Lab.open(Path(folder))
    with quiet_logs():
        ours = Ours(lab)
    ours.engine.may_merge = kind == "plain_merged"
    load = Load(int(rows), int(rows), int(tokens))
    loaded = _start(lab.device)
    (ours.steer if kind == "steer" else ours.plain)(load)
    print(json.dumps(asdict(Peak(loaded, _peak(lab.device)))))


def _start(device: str) -> int:
    """Forgets the peak so far; returns the bytes in use."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    elif _RESET.exists():
        _RESET.write_text("5")  # proc(5): resets the peak resident set size
    return _peak(device)


def _peak(device: str) -> int:
    """Peak in bytes, since `_start` where the system can forget (Linux, CUDA), else since the
    process began."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()

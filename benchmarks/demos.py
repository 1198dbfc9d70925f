"""Time of `make demo` from an empty folder, beside an older commit: `python -m benchmarks.demos`.

    python -m benchmarks.demos --old COMMIT

Clones both commits of this repository, in turns, each time into a new folder, and runs `make demo`
there: with nothing kept by pip or by steer from before, but what the network or the disk keeps
itself. The set-up ends where the demo says its first words. Some five minutes a side on two idle
cores. Adds three ratios to the results of `make bench`: of all of it, the set-up and the demo.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.before import ROOT, spreads
from benchmarks.command import require_place, run
from benchmarks.machine import machine, results_file
from benchmarks.pairs import Ratio
from benchmarks.table import Talk, add, how, read, show
from steer.errors import SteerError
from steer.models.base import pick_device

FIRST_WORDS = "Reading the docstrings"
RATIOS = {"demo": "whole", "demo_setup": "setup", "demo_run": "demo"}


@dataclass(frozen=True)
class Took:
    """Seconds of one `make demo`; `cpu` are those that all processes computed."""

    setup: float
    demo: float
    cpu: float

    @property
    def whole(self) -> float:
        """Seconds of all of it."""
        return self.setup + self.demo


def clone(commit: str, folder: Path) -> None:
    """Makes a clean copy of this repository at `commit`. Raises `SteerError` for an unknown one."""
    for command in (
        ["clone", "--quiet", str(ROOT), str(folder)],
        ["-C", str(folder), "checkout", "--quiet", "--detach", commit],
    ):
        done = subprocess.run(["git", *command], capture_output=True, text=True)
        if done.returncode:
            raise SteerError(f"git cannot make a copy at {commit}: {done.stderr.strip()}")


def identify(commit: str) -> str:
    """Short name of a commit of this repository. Raises `SteerError` for an unknown one."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", f"{commit}^{{commit}}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SteerError(f"this repository has no commit {commit!r}")
    return done.stdout.strip()


def take(commit: str) -> Took:
    """Times `make demo` at a commit, from an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "steer"
        clone(commit, folder)
        return timed(["make", "demo"], folder, empty_caches(Path(name)))


def empty_caches(folder: Path) -> dict[str, str]:
    """Environment in which pip and steer have nothing from before."""
    unwanted = ("PYTHONPATH", "STEER_CACHE", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    return environment | {"PIP_NO_CACHE_DIR": "1", "XDG_CACHE_HOME": str(folder / "cache")}


def timed(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Took:
    """Times a command whose set-up ends with `FIRST_WORDS`. Raises `SteerError`, with the last of
    what it said, when it fails or never says them."""
    said: deque[str] = deque(maxlen=5)
    before, began, setup = cpu_seconds(), time.perf_counter(), None
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            said.append(line.strip())
            if setup is None and line.startswith(FIRST_WORDS):
                setup = time.perf_counter() - began
    if process.returncode or setup is None:
        raise SteerError(f"{' '.join(command)} failed in {folder}: {' / '.join(said)}")
    return Took(setup, time.perf_counter() - began - setup, cpu_seconds() - before)


def cpu_seconds() -> float:
    """CPU seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compared(pairs: Sequence[tuple[Took, Took]]) -> tuple[dict[str, Ratio], dict[str, Any]]:
    """Makes the ratios of an old and a new side, and what else is known of them."""
    ratios = {
        f"{name}_over_before": Ratio.of([getattr(new, of) / getattr(old, of) for old, new in pairs])
        for name, of in RATIOS.items()
    }
    seconds = {
        f"{side}{label}": [getattr(pair[number], of) for pair in pairs]
        for number, side in enumerate(("before", "now"))
        for of, label in (("whole", ""), ("setup", ", set-up"), ("cpu", ", CPU"))
    }
    runs = [{"before": asdict(old), "now": asdict(new)} for old, new in pairs]
    return ratios, {"seconds": spreads(seconds), "runs": runs}


def measure(
    old: str, new: str, repeats: int, report: Callable[[str], None]
) -> list[tuple[Took, Took]]:
    """Times both commits in turns."""
    pairs = []
    for repeat in range(1, repeats + 1):
        sides = []
        for name, commit in (("before", old), ("now", new)):
            report(f"make demo, {repeat} of {repeats}: {name} ({commit})")
            sides.append(take(commit))
        pairs.append((sides[0], sides[1]))
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and adds; returns the exit code."""
    console = Console(stderr=True)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--old", required=True, help="the older commit")
    parser.add_argument("--new", default="HEAD", help="the newer commit (HEAD)")
    parser.add_argument("--repeats", type=int, default=1, help="(1)")
    parser.add_argument("--out", type=Path, help="results file (that of make bench)")
    options = parser.parse_args(arguments)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    device = pick_device("auto").type
    out = options.out or results_file(device)
    require_place(out)
    read(out)
    where, old, new = machine(device), identify(options.old), identify(options.new)
    ratios, more = compared(measure(old, new, options.repeats, Talk(console)))
    show(ratios, [], console)
    settings = {"repeats": options.repeats, "old": old, "new": new}
    add(out, "demos", ratios, how("python -m benchmarks.demos", where, settings) | more)
    console.print(f"Added to {out}", highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())

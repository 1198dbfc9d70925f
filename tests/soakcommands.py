"""Attacks on the command itself: it is killed, or the disk is full, in each of its phases.

A part of `make soak`. Each phase (fit, generate, export, report) is a command on a tiny model, in a
process that has loaded its libraries before. What is left must be nothing, or a beginning of what
the command makes when nothing stops it; the same command then makes just that.
"""

import contextlib
import io
import multiprocessing
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from steer.cli.main import main
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.runs.store import Run
from tests import tiny
from tests.evaluation.language import StubEmbedder

PATIENCE = 600.0
"""Seconds that a command may take, at most."""
DONE = (0, 3)
"""Exit codes of a command that came to its end; 3: all attempts were used up."""
TIMES_A_PLACE = 4
"""Times that one place is attacked, before the command may finish there."""

CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.soakcommands", "steer.models.fitting", "steer.report.page"])


@dataclass(frozen=True)
class Phase:
    """A command that makes `out`; `read` gives what is there, None where there is nothing yet, and
    `begins` whether that is a beginning of the whole."""

    arguments: Callable[[Path], list[str]]
    read: Callable[[Path], Any]
    begins: Callable[[Any, Any], bool] = lambda found, whole: found == whole


@dataclass(frozen=True)
class Ended:
    """End of a command: its exit code, None where it was killed, what it said, and the seconds that
    it took once its libraries were there."""

    code: int | None
    said: str
    seconds: float


def kill_commands(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Sends SIGKILL at a random moment of a command."""

    def attack(arguments: list[str], seconds: float) -> str:
        ended = _run(arguments, seconds=draw.uniform(0, seconds))
        if ended.code is None:
            return "killed"
        return "done before" if ended.code in DONE else f"FAILED: {_line(ended.said)}"

    return _attack(count, folder, attack)


def fill_disks(count: int, draw: random.Random, folder: Path) -> Counter[str]:
    """Lets no file grow beyond a random number of bytes, as on a full disk."""

    def attack(arguments: list[str], seconds: float) -> str:
        ended = _run(arguments, size=round(10 ** draw.uniform(0, 6)))
        if ended.code in DONE:
            return "done before"
        lines = [line for line in ended.said.splitlines() if line.startswith("error")]
        if ended.code is None or len(lines) != 1 or "Traceback" in ended.said:
            return f"FAILED: {_line(ended.said)}"
        return "one line"

    return _attack(count, folder, attack)


def _attack(count: int, folder: Path, attack: Callable[[list[str], float], str]) -> Counter[str]:
    """Attacks the phases in turn. In one place a command is attacked several times, unless all was
    there before; then it is let finish, and all must be there."""
    found = Counter[str]()
    phases = _phases(folder)
    for number, (name, phase) in enumerate(phases.items()):
        seconds, place = _done(phase.arguments(folder / name)).seconds, 0
        whole = phase.read(folder / name)
        share = count // len(phases) + (number < count % len(phases))
        for times in range(1, share + 1):
            out = folder / f"{name}-{place}"
            ended, left = _checked(phase, out, whole, attack(phase.arguments(out), seconds))
            found[ended] += 1
            # A kill may come after the last write: then all is there, and is not made again.
            if left == whole or times % TIMES_A_PLACE == 0 or times == share:
                found.update(_wrong(phase, out, whole))
                place += 1
    return found


def _wrong(phase: Phase, out: Path, whole: Any) -> list[str]:
    """Lets a command finish; says what is wrong with what it makes, if anything is."""
    try:
        return [] if _finished(phase, out, whole) == whole else ["FAILED: another result"]
    except (RuntimeError, SteerError) as error:
        return [f"FAILED: {_line(str(error))}"]


def _checked(phase: Phase, out: Path, whole: Any, ended: str) -> tuple[str, Any]:
    """Says how an attack ended, once what is left was read; gives that too."""
    try:
        left = phase.read(out)
    except Exception as error:  # whatever it is, it is a failure
        return f"FAILED: {type(error).__name__}: {_line(str(error))}", None
    if left is None or phase.begins(left, whole):
        return ended, left
    return "FAILED: something else is there", left


def _finished(phase: Phase, out: Path, whole: Any) -> Any:
    """Runs a command to its end, unless all is there already; gives what it made."""
    left = phase.read(out)
    if left is None or left != whole:
        _done(phase.arguments(out))
    return phase.read(out)


def _done(arguments: list[str]) -> Ended:
    """Runs a command that must come to its end."""
    ended = _run(arguments)
    if ended.code not in DONE:
        raise RuntimeError(ended.said)
    return ended


def _phases(folder: Path) -> dict[str, Phase]:
    base = tiny.save_tiny_model(folder / "base", readable=True)
    real = folder / "real.txt"
    real.write_text("\n".join(tiny.TEXTS[:40]), "utf-8")
    fit = ["fit", str(real), "--base", str(base), "--prompt", tiny.PROMPT, "--epochs", "1"]
    fit += ["--rank", "2", "--batch", "16"]
    expert, run = folder / "expert", folder / "run"
    more = ["--real", str(real), "--min-chars", "0", "--round-size", "8", "--max-attempts", "32"]
    make = ["generate", str(expert), "--n", "24", "--near", "1", *more]
    for arguments, out in ((fit, expert), (make, run)):
        _done([*arguments, "--out", str(out)])
    return {
        "fit": Phase(lambda out: [*fit, "--out", str(out)], _expert),
        "generate": Phase(lambda out: [*make, "--out", str(out)], _rounds, _begins),
        "export": Phase(lambda out: ["export", str(run), f"{out}.jsonl"], _file(".jsonl")),
        "report": Phase(
            lambda out: ["report", str(run), "--real", str(real), "--out", f"{out}.html"],
            _file(".html"),
        ),
    }


def _expert(out: Path) -> str | None:
    return Expert.load(out).adapter_fingerprint if out.exists() else None


def _rounds(out: Path) -> list[Any] | None:
    if not (out / "run.json").exists():
        return None
    run = Run.open(out)
    return sorted((*run.records, *run.rejects), key=lambda attempt: attempt.number)


def _begins(found: list[Any], whole: list[Any]) -> bool:
    return found == whole[: len(found)]


def _file(ending: str) -> Callable[[Path], bytes | None]:
    def read(out: Path) -> bytes | None:
        path = out.with_name(f"{out.name}{ending}")
        return path.read_bytes() if path.exists() else None

    return read


def _run(arguments: list[str], seconds: float = PATIENCE, size: int | None = None) -> Ended:
    """Runs a command for so many `seconds` at most, with files of at most `size` bytes."""
    here, there = CHILDREN.Pipe()
    began = time.monotonic()
    child = CHILDREN.Process(target=_work, args=(arguments, size, there), daemon=True)
    child.start()
    there.close()
    try:
        assert here.recv() == "ready"
        began = time.monotonic()
        code, said = here.recv() if here.poll(seconds) else (None, "killed")
    except EOFError:
        code, said = None, f"ended without a word, exit code {child.exitcode}"
    spent = time.monotonic() - began
    child.kill()
    child.join()
    here.close()
    return Ended(code, said, spent)


def _work(arguments: list[str], size: int | None, pipe: Connection) -> None:
    import steer.report.report

    steer.report.report.load_embedder = lambda name, cache: StubEmbedder()  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = io.StringIO()
    pipe.send("ready")
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(arguments)
    pipe.send((code, said.getvalue()))


def _line(said: str) -> str:
    return (said.strip().splitlines() or ["nothing was said"])[-1][:120]

"""Frame that the benchmarks' commands share: one line says why they end, and where the results go
is tried before minutes are measured."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from steer.errors import SteerError
from steer.files import write_atomic
from steer.quiet import quiet_logs


def run(work: Callable[[], None], console: Console) -> int:
    """Runs `work`, which measures and writes; returns the command's exit code."""
    try:
        with quiet_logs():
            work()
    except SteerError as error:
        console.print(f"error: {error}", highlight=False, markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; nothing was written")
        return 130
    return 0


def require_place(out: Path) -> None:
    """Raises `SteerError` when results cannot be written to `out`, whose folder is made."""
    if out.is_dir():
        raise SteerError(f"{out} is a folder; name a file in it with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise _refused(out, error) from None


def write_results(out: Path, text: str) -> None:
    """Puts `text` at `out`, whole or not at all. Raises `SteerError` when it cannot."""
    try:
        write_atomic(out, text.encode())
    except OSError as error:
        raise _refused(out, error) from None


def _refused(out: Path, error: OSError) -> SteerError:
    reason = error.strerror or error
    return SteerError(f"cannot write the results to {out}: {reason}; name another file with --out")

"""A command of steer, of this version or an older one, that says when something happened.

    PYTHON -P benchmarks/watched.py fit|generate ...

runs `steer fit|generate ...` as it is, and prints a line "@loss NUMBER" after each test on held-out
texts, and "@token" after the first decoding step. It imports nothing of this folder, as the Python
that runs it may have another version installed.
"""

import importlib
import runpy
import sys
from collections.abc import Callable
from typing import Any

PROGRESS = ("steer.console", "steer.cli.progress")
"""Modules that show progress: of the versions up to November 2026, and of those since."""


def main() -> None:
    """Runs the command; its exit code is the process's."""
    module = _progress()
    _watch(module, "fitting", _loss)
    _watch(module, "generating", _token)
    sys.argv[0] = "steer"
    runpy.run_module("steer", run_name="__main__")


def _progress() -> Any:
    for name in PROGRESS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
    raise SystemExit(f"none of {', '.join(PROGRESS)} is there: not a version of steer known here")


def _watch(module: Any, name: str, seen: Callable[[Any], str | None]) -> None:
    """Prints what `seen` makes of each progress that goes to what `module.name` makes, once each
    where it stays the same."""
    make = getattr(module, name)

    def making(*given: Any) -> Callable[[Any], None]:
        update, last = make(*given), None

        def watching(progress: Any) -> None:
            nonlocal last
            line = seen(progress)
            if line and line != last:
                print(f"@{line}", flush=True)
            last = line or last
            update(progress)

        return watching

    setattr(module, name, making)


def _loss(progress: Any) -> str | None:
    return None if progress.held_out_loss is None else f"loss {progress.held_out_loss!r}"


def _token(progress: Any) -> str | None:
    return "token" if progress.tokens else None


if __name__ == "__main__":
    main()

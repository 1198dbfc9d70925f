"""Machine and versions that the figures were measured with."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from steer.models.base import pick_dtype

RESULTS = Path(__file__).parent / "results"
_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "FBGEMM_ENABLE_INSTRUCTIONS",
)
"""Variables by which PyTorch's kernels leave instructions of the processor unused."""

_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy")


def machine(device: str) -> dict[str, Any]:
    """Describes the machine: processor, its vector instructions, the dtype that models get on it,
    cores and threads in use, memory, what its kernels are held to, and the GPU if that is what
    computes."""
    found: dict[str, Any] = {
        "device": device,
        "cpu": _cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "dtype": _dtype(device),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if held := {name: os.environ[name] for name in _LIMITS if name in os.environ}:
        found["held"] = held
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name()
    return found


def results_file(device: str, what: str = "") -> Path:
    """Path where results of `what` (the main benchmark if empty) belong, by what `device` can do:
    gpu, cpu where bf16 is computed in hardware, else cpu- and the vector instructions: cpu-avx2."""
    kind = "cpu"
    if device.startswith("cuda"):
        kind = "gpu"
    elif _dtype(device) != "bfloat16":
        capability = torch.backends.cpu.get_cpu_capability().lower()
        kind = f"cpu-{re.sub('[^a-z0-9]+', '-', capability)}"
    return RESULTS / f"{what}{'-' if what else ''}{kind}.json"


def _dtype(device: str) -> str:
    return str(pick_dtype("auto", torch.device(device))).removeprefix("torch.")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that matter for speed."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def _cores() -> int | None:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

"""What this machine has, for defaults that fit it."""

import joblib
import psutil
import torch


def total_memory(device: torch.device) -> int:
    """Bytes of memory of `device`. The total, not what is free now: a choice made by it must be the
    same when a run is continued."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def use_cpus() -> None:
    """Let PyTorch use no more threads than this process may run on (affinity, container limits):
    more wait for each other."""
    torch.set_num_threads(min(torch.get_num_threads(), joblib.cpu_count()))

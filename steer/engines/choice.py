"""Settings that load an engine by its name, here or in another process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from steer.config import Sampling
from steer.engines.live import LiveEngine
from steer.errors import SteerError
from steer.models.base import INT8, DType
from steer.models.fingerprints import adapter_fingerprint
from steer.models.machine import use_cpus

EngineName = Literal["hf", "vllm"]


@dataclass(frozen=True)
class EngineSpec:
    """Name and settings of an engine to load; see `steer.engines.hf.engine.HFEngine` and
    `steer.engines.vllm.engine.VLLMEngine`. `threads` are those of the CPU (None: one a processor,
    or as OMP_NUM_THREADS says). The adapters `beside` the first are those of other experts that a
    server's rows choose from. Raises `SteerError` for a name or dtype that does
    not exist, and for several GPUs with hf."""

    base: str
    adapter: Path | None = None
    name: str = "hf"
    rows: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    gpus: int = 1
    threads: int | None = None
    beside: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name, value, kind in (
            ("engine", self.name, EngineName),
            ("dtype", self.dtype, DType),
        ):
            if value not in get_args(kind):
                allowed = ", ".join(get_args(kind))
                raise SteerError(f"--{name} is {value!r}: choose one of {allowed}")
        if self.threads is not None and self.threads < 1:
            raise SteerError(f"--threads is {self.threads}: at least one must compute")
        if self.dtype == INT8 and self.name != "hf":
            raise SteerError(f"--dtype is {INT8}, but only --engine hf reads such weights")
        if self.gpus > 1 and self.name != "vllm":
            raise SteerError(f"--gpus is {self.gpus}, but only --engine vllm uses more than one")

    def require(self, sampling: Sampling) -> None:
        """Raises `SteerError` for a `sampling` that the engine does not know."""
        if self.name == "vllm":
            from steer.engines.vllm.engine import require_drawing

            require_drawing(sampling)

    def load(self) -> LiveEngine:
        """Loads the engine. Raises `SteerError` when the engine, the model or the adapter cannot be
        used."""
        use_cpus(self.threads)
        settings: dict[str, Any] = {"rows": self.rows, "dtype": self.dtype, "device": self.device}
        adapters = [each for each in (self.adapter, *self.beside) if each]
        if self.name == "vllm":
            from steer.engines.vllm.engine import VLLMEngine

            return VLLMEngine(self.base, adapters, gpus=self.gpus, **settings)
        from steer.engines.hf.engine import HFEngine

        return HFEngine(self.base, adapters, **settings)

    def adapter_fingerprint(self) -> str:
        """Fingerprint of the adapter, as its expert's card has it; "" without an adapter."""
        return adapter_fingerprint(self.adapter) if self.adapter else ""

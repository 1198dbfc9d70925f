"""An engine by name, loaded from settings that can be sent to another process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steer.engines.interface import Engine

EngineName = Literal["hf"]


@dataclass(frozen=True)
class EngineSpec:
    """Which engine to load, and how; see `steer.engines.hf.HFEngine`."""

    base: str
    adapter: Path | None = None
    name: EngineName = "hf"
    rows: int | None = None
    dtype: str = "auto"
    device: str = "auto"

    def load(self) -> Engine:
        """Raises `SteerError` when the model or the adapter cannot be used."""
        from steer.engines.hf import HFEngine

        return HFEngine(
            self.base, self.adapter, rows=self.rows, dtype=self.dtype, device=self.device
        )

    def adapter_fingerprint(self) -> str:
        """As the expert has it; "" without an adapter."""
        from steer.models import adapter_fingerprint

        return adapter_fingerprint(self.adapter) if self.adapter else ""

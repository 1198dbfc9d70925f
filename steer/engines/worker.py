"""An engine in a process of its own, on whatever machine that is."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steer.config import Sampling
from steer.engines.interface import Arithmetic, Completion, Engine, Request, complete
from steer.errors import SteerError
from steer.models.machine import use_cpus


class Spec(Protocol):
    """Settings that load an engine, such as `steer.engines.choice.EngineSpec`; it is sent by
    pickle."""

    @property
    def device(self) -> str: ...

    @property
    def gpus(self) -> int: ...

    @property
    def threads(self) -> int | None: ...

    def load(self) -> Engine: ...

    def adapter_fingerprint(self) -> str:
        """Fingerprint of the adapter, as its expert's card has it; "" without an adapter."""
        ...


@dataclass(frozen=True)
class Loaded:
    """Report of a worker on its loaded engine, and on the machine that it is on."""

    name: str
    base_fingerprint: str
    arithmetic: Arithmetic
    adapter_fingerprint: str
    node: str

    @property
    def model(self) -> tuple[str, str]:
        """Name of the engine and fingerprint of the base model, which all workers of a run
        share."""
        return self.name, self.base_fingerprint


class Worker:
    """One engine, loaded once in each life of the process."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def ready(self) -> None:
        """Answers once the process is there."""

    def load(self, spec: Spec, threads: int | None) -> Loaded:
        """Loads the engine, to compute with so many `threads` of the CPU.

        Raises `SteerError` when the engine cannot be loaded, whatever the reason.
        """
        node = socket.gethostname()
        try:
            use_cpus(threads)
            self._engine = engine = self._engine or spec.load()
            adapter = spec.adapter_fingerprint()
        except Exception as error:  # the other process has to say it, in a line
            cause = " ".join(str(error).split()) or repr(error)
            raise SteerError(f"a worker on {node} cannot load its model: {cause}") from None
        return Loaded(
            engine.name,
            engine.base_fingerprint,
            engine.arithmetic,
            adapter,
            node,
        )

    def make(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion] | None:
        """Generates the completions of a round's requests; gives None when nothing was loaded in
        this life."""
        if self._engine is None:
            return None
        return complete(self._engine, requests, sampling)

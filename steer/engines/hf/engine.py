"""The embedded engine: Transformers and PEFT, continuous batching, one pass for all streams.

Every step is one forward pass over the lanes of all rows: a lane is one stream of one row. All
lanes read one copy of the base weights, and the adapter is on for those that want it. A finished
row's lanes go to the next waiting record at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from steer.config import Sampling
from steer.engines.hf.beam import BeamSearch
from steer.engines.hf.compiled import kernels_for
from steer.engines.hf.contrastive import ContrastiveSearch
from steer.engines.hf.generation import Generation
from steer.engines.hf.lanes import SHORT
from steer.engines.hf.live import Live
from steer.engines.hf.model import LaneModel
from steer.engines.hf.products import COPY_SHARE
from steer.engines.interface import Arithmetic, Completion, Request, Step, most_streams
from steer.engines.masks import Masks
from steer.engines.tokens import Known, arithmetic, end_tokens
from steer.errors import SteerError
from steer.models.machine import total_memory, use_cpus

# docs/performance.md has the curves behind these.
ROWS = {"cpu": 128, "cuda": 256}
CACHE_SHARE = 1 / 4  # share of the memory for the caches of all rows


class HFEngine:
    """Guided decoding with a base model and a LoRA adapter, or several: a call of `generate` reads
    with the first, an `Order` of a `live` generation with the one of its number.

    `rows` is how many records decode together; None is 128 on a CPU and 256 on a GPU, or as many as
    fit into a quarter of the memory. `dtype` "auto" is bfloat16 where the hardware computes in it
    and float32 elsewhere; "int8", on a CPU, reads weights of int8, which is faster for few rows.
    `device` "auto" is CUDA where there is one. A second copy of the weights,
    with the adapter added in, is used where no stream reads the base model. It may take at most a
    twentieth of the memory. Raises `SteerError` when the model or the adapter cannot be used.
    """

    name = "hf"

    def __init__(
        self,
        base: str,
        adapter: Path | Sequence[Path] | None = None,
        *,
        rows: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        if rows is not None and rows < 1:
            raise SteerError(f"rows is {rows}: at least one record must decode at a time")
        use_cpus()
        self.rows = rows
        adapters = [adapter] if isinstance(adapter, Path) else list(adapter or ())
        self.lane_model = LaneModel(base, adapters, dtype, device)
        self.base_fingerprint = self.lane_model.fingerprint
        self.model, self.tokenizer = self.lane_model.body, self.lane_model.tokenizer
        room = COPY_SHARE * total_memory(self.model.device)
        merged_bytes = sum(joint.merged_bytes for joint in self.model.joints)
        self.may_merge = len(adapters) < 2 and merged_bytes <= room
        ends = end_tokens(self.tokenizer, self.model.ends)
        self.ends = torch.tensor(ends, device=self.model.device)
        self.compiled = kernels_for(self.ends.new_empty(0, dtype=self.model.dtype)) is not None

    @property
    def arithmetic(self) -> Arithmetic:
        """Dtype of the weights, on a CPU the number of threads, and whether kernels were
        compiled."""
        how = arithmetic(self.lane_model.dtype, self.model.device.type)
        return replace(how, compiled=self.compiled)

    @property
    def known(self) -> Known:
        """Ids that may be drawn."""
        return self.lane_model.known

    def masks(self) -> Masks:
        """Masks for records with shapes. Raises `SteerError` as `Masks` does."""
        return self.lane_model.masks(self.ends)

    def rows_for(self, streams: int, sampling: Sampling) -> int:
        """Number of records of `streams` streams that decode together."""
        if self.rows is not None:
            return self.rows
        device = self.model.device
        token = 2 * math.prod(self.model.kv_shape) * self.model.dtype.itemsize
        lane = (SHORT + sampling.max_new_tokens) * token
        room = CACHE_SHARE * total_memory(device) / (streams * lane)
        return max(1, min(ROWS.get(device.type, ROWS["cpu"]), int(room)))

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        """Generates completions in the order of `requests`; see
        `steer.engines.interface.Engine`."""
        # Where no stream reads the base model, weights with the adapter added in are faster.
        adapted = all(stream.adapter for request in requests for stream in request.streams)
        self.lane_model.merge(adapted and self.may_merge)
        rows = self.rows_for(most_streams(requests), sampling)
        with torch.inference_mode():
            made = _method(sampling)(self.lane_model, self.ends, rows, requests, sampling)
            return made.run(on_step)

    def live(self, longest: int) -> Live:
        """Makes a generation that requests join and leave while it runs; no record has more than
        `longest` tokens, or than the model reads."""
        self.lane_model.merge(False)
        device = self.model.device
        lanes = 4 * (self.rows or ROWS.get(device.type, ROWS["cpu"]))
        memory = int(CACHE_SHARE * total_memory(device))
        longest = min(longest, self.lane_model.body.context)
        return Live(self.lane_model, self.ends, lanes, longest, memory)


def _method(sampling: Sampling) -> type[Generation]:
    if sampling.beams > 1:
        return BeamSearch
    return ContrastiveSearch if sampling.penalty else Generation

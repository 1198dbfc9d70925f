"""The embedded engine: Transformers and PEFT, continuous batching, one pass for all streams.

Every step is one forward pass over the lanes of all rows: a lane is one stream of one row. All
lanes read one copy of the base weights, the adapter is on for those that want it, and a finished
row's lanes go to the next waiting record at once.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from steer.config import Sampling
from steer.engines.hf.beam import BeamSearch
from steer.engines.hf.contrastive import ContrastiveSearch
from steer.engines.hf.generation import Generation
from steer.engines.hf.lanes import IMPLEMENTATION, SHORT, Bank, Context
from steer.engines.hf.linear import join, merge, merged_bytes, pack
from steer.engines.interface import Completion, Request, Step
from steer.engines.tokens import encode, end_tokens
from steer.errors import SteerError
from steer.models.base import (
    context_length,
    load_model,
    load_tokenizer,
    model_fingerprint,
)
from steer.models.machine import total_memory, use_cpus

# docs/performance.md has the curves behind these.
ROWS = {"cpu": 128, "cuda": 256}
CACHE_SHARE = 1 / 4  # of the memory, for the caches of all rows
MERGED_SHARE = 1 / 20  # of the memory, for a second copy of the weights


class HFEngine:
    """Guided decoding with a base model and a LoRA adapter.

    `rows` is how many records decode together; None is 128 on a CPU and 256 on a GPU, or as many as
    fit into a quarter of the memory. `dtype` "auto" is bfloat16 where the hardware computes in it
    and float32 elsewhere; `device` "auto" is CUDA where there is one. Where no stream reads the
    base model and a second copy of its weights takes at most a twentieth of the memory, one with
    the adapter added in is used.
    Raises `SteerError` when the model or the adapter cannot be used.
    """

    name = "hf"

    def __init__(
        self,
        base: str,
        adapter: Path | None = None,
        *,
        rows: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> None:
        if rows is not None and rows < 1:
            raise SteerError(f"rows is {rows}: at least one record must decode at a time")
        use_cpus()
        self.model = load_model(base, dtype=dtype, device=device).eval()
        self.tokenizer = load_tokenizer(base)
        self.base_fingerprint = model_fingerprint(base)
        self.rows = rows
        if not self.model.is_backend_compatible():
            kind = type(self.model).__name__
            raise SteerError(
                f"{kind} does not take Transformers' attention interface; "
                "the hf engine needs a model that does (Llama, Qwen, Mistral, ...)"
            )
        self.switch = join(self.model, adapter)
        pack(self.model)
        self.may_merge = merged_bytes(self.model) <= MERGED_SHARE * total_memory(self.model.device)
        self.model.set_attn_implementation(IMPLEMENTATION)
        ends = end_tokens(self.tokenizer, self.model.generation_config.eos_token_id)
        self.ends = torch.tensor(ends, device=self.model.device)

    @property
    def end_of_text(self) -> str:
        """The tokenizer's mark for the end of a text, which separates the texts of a panel."""
        return str(self.tokenizer.eos_token)

    @property
    def max_context(self) -> int:
        """Tokens of context and record together that the model can read.

        A sliding window counts as the limit: within it such a model attends to everything.
        """
        window = getattr(self.model.config.get_text_config(), "sliding_window", None)
        return min(context_length(self.model), window or 2**31)

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """Layers, key-value heads and their size: what a cache has for each token."""
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, dim

    @property
    def rep(self) -> int:
        """Query heads that share a key-value head."""
        heads: int = self.model.config.get_text_config().num_attention_heads
        return heads // self.kv_shape[1]

    def rows_for(self, streams: int, sampling: Sampling) -> int:
        """How many records of `streams` streams decode together."""
        if self.rows is not None:
            return self.rows
        device = self.model.device
        token = 2 * math.prod(self.kv_shape) * self.model.dtype.itemsize
        lane = (SHORT + sampling.max_new_tokens) * token
        room = CACHE_SHARE * total_memory(device) / (streams * lane)
        return max(1, min(ROWS.get(device.type, ROWS["cpu"]), int(room)))

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        """Completions in the order of `requests`; see `steer.engines.interface.Engine`."""
        self._choose_weights(requests)
        with torch.inference_mode():
            return _method(sampling)(self, requests, sampling).run(on_step)

    def _choose_weights(self, requests: Sequence[Request]) -> None:
        """Where no stream reads the base model, weights with the adapter added in are faster; they
        are a second copy, so they are made when first needed, and only for a small model."""
        adapted = all(stream.adapter for request in requests for stream in request.streams)
        self.switch.merged = adapted and self.may_merge
        if self.switch.merged:
            merge(self.model)

    def encode(self, context: str) -> list[int]:
        """Token ids of a context; a context without any is the start of text."""
        return encode(self.tokenizer, context)

    def forward(
        self, tokens: Tensor, positions: Tensor, read: Context | Bank, adapted: int
    ) -> Tensor:
        """Logits (lanes, vocab) after the last token of `tokens` (lanes, length); the adapter is
        on for the first `adapted` lanes, and `read` holds their caches."""
        self.switch.lanes = adapted
        logits: Tensor = self.model(
            input_ids=tokens,
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            steer_read=read,
        ).logits
        return logits[:, -1]


def _method(sampling: Sampling) -> type[Generation]:
    if sampling.beams > 1:
        return BeamSearch
    return ContrastiveSearch if sampling.penalty else Generation

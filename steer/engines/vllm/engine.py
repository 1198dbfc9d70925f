"""The engine for servers: vLLM, whose logits processor links the streams of each record.

vLLM batches, pages, caches prefixes, adds LoRA and spreads a model over GPUs; ours is only the
guidance (`processor`) and which records may start when (`room`). docs/vllm.md has the
picture, and what is guaranteed.
"""

import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from steer.config import Sampling
from steer.engines.interface import Arithmetic, Completion, Request, Step
from steer.engines.masks import Masks
from steer.engines.tokens import arithmetic, encode, end_tokens, known_ids
from steer.engines.vllm.parts import CPU_PARTS
from steer.engines.vllm.room import Capacity
from steer.engines.vllm.versions import INSTALL, require_parts, require_vllm
from steer.errors import SteerError
from steer.guidance import Shown
from steer.models.base import (
    Tokenizer,
    load_tokenizer,
    model_fingerprint,
    pick_dtype,
    resolve_model,
)
from steer.models.machine import use_cpus

if TYPE_CHECKING:
    from steer.engines.vllm.live import Live

ROWS = {"cpu": 64, "cuda": 256}
STREAMS = 4  # streams of a record that sequences suffice for; with more, fewer records run
STEP_TOKENS = {"cpu": 4096, "cuda": 16_384}
CPU_CACHE = 2 << 30  # bytes, all in use from the start
GPU_SHARE = 0.8  # share of a GPU's memory; the rest is for what judges and embeds the records
CPU_BLOCK = 32  # tokens; vLLM's own choice of 128 shares little of a short panel
LINKING = {
    "logits_processors": ["steer.engines.vllm.processor:LinkedSequences"],
    "logprobs_mode": "processed_logits",
}
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # ranks that vLLM can make room for


class VLLMEngine:
    """Guided decoding on vLLM, with a base model and a LoRA adapter, or several: a call of
    `generate` reads with the first, an `Order` of a `live` generation with the one of its number.

    `rows` is how many records decode together; None is 64 on a CPU and 256 on a GPU. `dtype` "auto"
    is as for the hf engine. `device` "auto" is what the installed vLLM was built for; over `gpus`
    of them a model is spread (tensor parallelism). `restarts` counts the records that were begun
    again because vLLM took their sequences apart.
    Raises `SteerError` when vLLM is missing or lacks a part that the engine needs, or when the
    model or the adapter cannot be used.
    """

    name = "vllm"

    def __init__(
        self,
        base: str,
        adapter: Path | Sequence[Path] | None = None,
        *,
        rows: int | None = None,
        dtype: str = "auto",
        device: str = "auto",
        gpus: int = 1,
    ) -> None:
        if rows is not None and rows < 1:
            raise SteerError(f"rows is {rows}: at least one record must decode at a time")
        require_vllm()
        use_cpus()
        self.kind = kind = _platform(device)
        self.base = base
        self.rows = rows or ROWS[kind]
        adapters = [adapter] if isinstance(adapter, Path) else list(adapter or ())
        self.tokenizer: Tokenizer = load_tokenizer(base)
        self.base_fingerprint = model_fingerprint(base)
        chosen = pick_dtype(dtype, torch.device(kind))
        options = {
            "model": resolve_model(base),
            "trust_remote_code": False,
            "dtype": str(chosen).removeprefix("torch."),
            "max_num_seqs": self.rows * STREAMS,
            "tensor_parallel_size": gpus,
            "max_num_batched_tokens": max(STEP_TOKENS[kind], self.rows * STREAMS),
            **_lora_options(adapters),
            **(_cpu_options(adapters) if kind == "cpu" else {"gpu_memory_utilization": GPU_SHARE}),
        }
        with _loading(base):
            self.llm = _llm(options)
            self.loras = [_add_lora(self.llm, *each) for each in enumerate(adapters, 1)]
        self.capacity = _capacity(self.llm)
        generation = self.llm.model_config.try_get_generation_config()
        self.ends = torch.tensor(end_tokens(self.tokenizer, generation.get("eos_token_id")))
        self.known = known_ids(self.tokenizer, self.llm.model_config.get_vocab_size())
        self.numbers: Iterator[int] = itertools.count()
        self.restarts = 0

    @property
    def arithmetic(self) -> Arithmetic:
        """Dtype of the model, and on a CPU the number of threads."""
        return arithmetic(str(self.llm.model_config.dtype), self.kind)

    @property
    def max_context(self) -> int:
        """Tokens of context and record together that the model can read."""
        return int(self.llm.model_config.max_model_len)

    def rows_for(self, streams: int) -> int:
        """Number of records of `streams` streams that decode together."""
        return max(1, min(self.rows, self.capacity.sequences // streams))

    def encode(self, context: str | Shown) -> list[int]:
        """Token ids of a context."""
        return encode(self.tokenizer, context)

    def masks(self) -> Masks:
        """Masks for records with shapes. Raises `SteerError` as `Masks` does."""
        from steer.engines.vllm.processor import find_masks

        return find_masks(self.base, self.known.size, tuple(self.ends.tolist()))

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        on_step: Callable[[Step], None] | None = None,
    ) -> list[Completion]:
        """Generates completions in the order of `requests`; see `steer.engines.interface.Engine`.
        Raises `SteerError` for beam and contrastive search, which vLLM's caches cannot follow, and
        for a shape that no record can have."""
        from steer.engines.vllm.generation import Generation

        require_drawing(sampling)
        # What was read before must not decide what is computed: equal calls, equal answers.
        self.llm.reset_prefix_cache()
        return Generation(self, requests, sampling).run(on_step)

    def live(self, longest: int) -> "Live":
        """Makes a generation that requests join and leave while it runs; no record has more than
        `longest` tokens, or than the model reads."""
        from steer.engines.vllm.live import Live

        return Live(self, min(longest, self.max_context))


def require_drawing(sampling: Sampling) -> None:
    """Raises `SteerError` when `sampling` is a search: its rows move from one cache to another."""
    if sampling.beams > 1 or sampling.penalty:
        kind = "beam search" if sampling.beams > 1 else "contrastive search"
        raise SteerError(f"the vllm engine does no {kind}; use --engine hf, or another method")


def _platform(device: str) -> str:
    """Platform that the installed vLLM was built for, "cpu" or "cuda"."""
    _prepare()
    with _loading("vLLM"):
        from vllm.platforms import current_platform

        kind = str(current_platform.device_type)
    if kind not in ROWS:
        raise SteerError(f"this vLLM finds no CPU or CUDA device but {kind or 'nothing'}")
    if device.split(":")[0] not in ("auto", kind):
        raise SteerError(f"device is {device!r}, but the installed vLLM is for {kind}; {INSTALL}")
    return kind


def _prepare() -> None:
    """Sets what vLLM reads from the environment. The engine's loop must be in this process, as what
    is added between two steps has to be scheduled in one. The first of its two model runners is the
    one that was tested; the second has another interface for logits processors."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # vLLM would send some to its authors
    logging.getLogger("vllm").setLevel(logging.ERROR)  # until it reads its own setting


def _cpu_options(adapters: Sequence[Path]) -> dict[str, Any]:
    """Options for a CPU. There vLLM gives a sequence without an adapter the last of its places for
    adapters (index -1), so one place stays empty: else the base model would be an expert."""
    require_parts(CPU_PARTS)
    from steer.engines.vllm.cpu import use_products

    use_products()
    options = {"kv_cache_memory_bytes": CPU_CACHE, "block_size": CPU_BLOCK, "enforce_eager": True}
    return options | {"max_loras": len(adapters) + 1} if adapters else options


def _lora_options(adapters: Sequence[Path]) -> dict[str, Any]:
    if not adapters:
        return {}
    configs = [json.loads((each / "adapter_config.json").read_text()) for each in adapters]
    patterns = [config.get("rank_pattern") or {} for config in configs]
    needed = max(
        max([config["r"], *own.values()]) for config, own in zip(configs, patterns, strict=True)
    )
    fitting = [rank for rank in RANKS if rank >= needed]
    if not fitting:
        raise SteerError(f"the adapter's rank is {needed}; vLLM takes {RANKS[-1]} at most")
    options = {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": fitting[0]}
    targets = [config["target_modules"] for config in configs]
    if any(isinstance(each, str) for each in targets):  # an expression, for PEFT to match
        return options
    # Else vLLM would add empty adapters to the embeddings and the output layer too.
    names = {name.split(".")[-1] for each in targets for name in each}
    return options | {"lora_target_modules": sorted(names)}


def _llm(options: dict[str, Any]) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    arguments = EngineArgs(
        max_model_len=-1,  # the model's, or as long as the cache allows
        enable_prefix_caching=True,
        async_scheduling=False,  # what finished must be known before the next admission
        skip_tokenizer_init=True,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **LINKING,
        **options,
    )
    config = arguments.create_engine_config()
    if config.use_v2_model_runner:
        raise SteerError("vLLM insists on its second model runner here; the engine needs the first")
    executor = Executor.get_class(config)
    return LLMEngine(config, executor, log_stats=False, multiprocess_mode=False)


def _add_lora(llm: Any, number: int, adapter: Path) -> Any:
    """Loads an adapter at once, so that one that does not fit is found out now."""
    from vllm.lora.request import LoRARequest

    request = LoRARequest(
        lora_name=f"expert{number}", lora_int_id=number, lora_path=str(adapter.resolve())
    )
    llm.add_lora(request)
    return request


def _capacity(llm: Any) -> Capacity:
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    scheduler = llm.engine_core.engine_core.scheduler
    caches = scheduler.kv_cache_config.kv_cache_groups
    manager = scheduler.kv_cache_manager
    return Capacity(
        sequences=scheduler.max_num_running_reqs,
        blocks=manager.block_pool.get_num_free_blocks() - manager.watermark_blocks,
        block=scheduler.block_size,
        step_tokens=scheduler.max_num_scheduled_tokens,
        shares=len(caches) == 1 and isinstance(caches[0].kv_cache_spec, FullAttentionSpec),
        layouts=len(caches),
    )


_FAILURES = (
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    AssertionError,
    SafetensorError,
)


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turns what goes wrong in vLLM while loading into a `SteerError` of one line."""
    try:
        yield
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SteerError(f"vLLM cannot load {name}: {reason[:300]}") from None

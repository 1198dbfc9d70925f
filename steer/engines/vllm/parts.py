"""The parts of vLLM that the engine needs, and which of them a release does not have.

The engine uses vLLM's insides, which no release promises to keep. They are written down here, and
looked for in a release's source: at start, and by `python -m benchmarks.vllm_fits`.
"""

import ast
from dataclasses import dataclass

from steer.engines.vllm.source import Found, Function, Signature, Source


@dataclass(frozen=True)
class Part:
    """A class, function or variable of vLLM, named as it is imported. `attributes` are what the
    engine reads or gives by name; `strings` stand in the module's text. `calls` are written as the
    engine makes them: what is given by position, then `*` and what by name. `overrides` are the
    methods of a subclass of ours."""

    module: str
    name: str
    attributes: str = ""
    calls: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    strings: tuple[str, ...] = ()


PARTS = (
    # The second model runner has another batch, and another interface for logits processors.
    Part("vllm.v1.worker.gpu_input_batch", "InputBatch", "logitsprocs"),
    Part(
        "vllm.v1.sample.logits_processor.interface",
        "LogitsProcessor",
        overrides=(
            "__init__(vllm_config, device, is_pin_memory)",
            "is_argmax_invariant()",
            "update_state(batch_update)",
            "apply(logits)",
        ),
    ),
    Part("vllm.v1.sample.logits_processor.interface", "BatchUpdate"),
    Part(
        "vllm.v1.sample.logits_processor.builtin",
        "process_dict_updates",
        calls=("process_dict_updates(req_entries, batch_update, new_state)",),
    ),
    Part(
        "vllm",
        "SamplingParams",
        "temperature max_tokens ignore_eos stop_token_ids logprobs detokenize output_kind "
        "extra_args",
    ),
    Part("vllm.sampling_params", "RequestOutputKind", "FINAL_ONLY DELTA"),
    Part("vllm.config.model", "LogprobsMode", strings=("processed_logits",)),
    Part("vllm.outputs", "RequestOutput", "request_id outputs"),
    Part("vllm.outputs", "CompletionOutput", "token_ids logprobs cumulative_logprob"),
    Part("vllm.logprobs", "Logprob", "logprob"),
    Part("vllm.inputs.engine", "tokens_input", calls=("tokens_input(prompt_token_ids)",)),
    Part("vllm.lora.request", "LoRARequest", "lora_name lora_int_id lora_path"),
    Part(
        "vllm.engine.arg_utils",
        "EngineArgs",
        "model trust_remote_code dtype max_num_seqs tensor_parallel_size max_num_batched_tokens "
        "enable_lora max_loras max_lora_rank lora_target_modules kv_cache_memory_bytes block_size "
        "enforce_eager gpu_memory_utilization max_model_len enable_prefix_caching "
        "async_scheduling skip_tokenizer_init disable_log_stats use_tqdm_on_load "
        "logits_processors logprobs_mode",
        calls=("create_engine_config()",),
    ),
    Part("vllm.config.vllm", "VllmConfig", "use_v2_model_runner"),
    Part(
        "vllm.config.model",
        "ModelConfig",
        "dtype max_model_len",
        calls=("try_get_generation_config()", "get_vocab_size()"),
    ),
    Part(
        "vllm.envs",
        "environment_variables",
        strings=(
            "VLLM_ENABLE_V1_MULTIPROCESSING",
            "VLLM_USE_V2_MODEL_RUNNER",
            "VLLM_LOGGING_LEVEL",
            "VLLM_NO_USAGE_STATS",
        ),
    ),
    Part("vllm.platforms", "current_platform"),
    Part("vllm.platforms.interface", "Platform", "device_type"),
    Part("vllm.v1.executor", "Executor", calls=("get_class(vllm_config)",)),
    Part(
        "vllm.v1.engine.llm_engine",
        "LLMEngine",
        "model_config engine_core",
        calls=(
            "__init__(vllm_config, executor_class, *, log_stats, multiprocess_mode)",
            "add_request(request_id, prompt, params, *, lora_request)",
            "abort_request(request_ids)",
            "add_lora(lora_request)",
            "collective_rpc(method)",
            "reset_prefix_cache()",
            "step()",
        ),
    ),
    Part("vllm.v1.engine.core_client", "InprocClient", "engine_core"),
    Part("vllm.v1.engine.core", "EngineCore", "scheduler"),
    Part(
        "vllm.v1.core.sched.scheduler",
        "Scheduler",
        "kv_cache_config kv_cache_manager max_num_running_reqs block_size max_num_scheduled_tokens",
    ),
    Part("vllm.v1.core.kv_cache_manager", "KVCacheManager", "block_pool watermark_blocks"),
    Part("vllm.v1.core.block_pool", "BlockPool", calls=("get_num_free_blocks()",)),
    Part("vllm.v1.kv_cache_interface", "KVCacheConfig", "kv_cache_groups"),
    Part("vllm.v1.kv_cache_interface", "KVCacheGroupSpec", "kv_cache_spec"),
    Part("vllm.v1.kv_cache_interface", "FullAttentionSpec"),
)
# What `steer.engines.vllm.cpu` replaces.
CPU_PARTS = (
    Part(
        "vllm.lora.punica_wrapper.punica_cpu",
        "PunicaWrapperCPU",
        "token_lora_indices",
        calls=("add_lora_linear(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices)",),
    ),
    Part("vllm.platforms.cpu", "CpuPlatform", calls=("get_punica_wrapper()",)),
)


def misfits(source: Source, parts: tuple[Part, ...]) -> list[str]:
    """Says what of the `parts` a vLLM does not have, or has otherwise, a line each."""
    return [line for part in parts for line in _misfits(source, part)]


def _misfits(source: Source, part: Part) -> list[str]:
    path = f"{part.module}.{part.name}"
    if source.tree(part.module) is None:
        return [f"there is no module {part.module}, for {part.name}"]
    found = source.find(part.module, part.name)
    if found is None:
        return [f"there is no {path}"]
    members = source.members(found)
    given = {part.name: found} | members
    return [
        *(f"{path} has no {name}" for name in part.attributes.split() if name not in members),
        *_strange(path, part, given),
        *_abstract(path, part, members),
        *(
            f'{part.module} does not know "{text}"'
            for text in part.strings
            if not source.has_text(part.module, text)
        ),
    ]


def _strange(path: str, part: Part, given: dict[str, Found]) -> list[str]:
    """Calls and overrides that do not fit the functions."""
    lines = []
    for wanted in (*part.calls, *part.overrides):
        (ours,) = ast.parse(f"def {wanted}: ...").body
        assert isinstance(ours, Function)
        where = path if ours.name == part.name else f"{path}.{ours.name}"
        theirs = given[ours.name].node if ours.name in given else None
        if not isinstance(theirs, Function):
            lines.append(f"there is no function {where}")
            continue
        found = Signature.of(theirs, method=ours.name != part.name)
        engine = Signature.of(ours, method=False)
        fits = found.same(engine) if wanted in part.overrides else found.takes(engine)
        if not fits:
            lines.append(f"{where} takes {found}, not {engine}")
    return lines


def _abstract(path: str, part: Part, members: dict[str, Found]) -> list[str]:
    """Methods that a subclass of ours would have to define too."""
    known = {override.split("(")[0] for override in part.overrides}
    return [
        f"{path} needs a method {name}"
        for name, found in members.items()
        if part.overrides and name not in known and _is_abstract(found.node)
    ]


def _is_abstract(node: ast.stmt) -> bool:
    marks = node.decorator_list if isinstance(node, Function) else []
    return any(isinstance(each, ast.Name) and each.id == "abstractmethod" for each in marks)

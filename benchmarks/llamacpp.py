"""Peer llama.cpp: the same model, its weights rounded to four bits (Q4_0) or to eight (Q8_0), one
text at a time.

Measured where its Python package and that of its file format are there; nothing here needs them
else. Both compile or install in minutes:

    pip install --no-deps gguf llama-cpp-python diskcache
"""

import importlib.util
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.lab import PROMPT, SEED, Lab
from benchmarks.pairs import Load, check_tokens
from steer.errors import SteerError
from steer.models.base import load_tokenizer

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Names of a Llama's weights: Transformers', then those of the file format."""


def missing(model_type: str) -> str | None:
    """Says why llama.cpp cannot be measured with a model of this type; None where it can."""
    if model_type != "llama":
        return f"the benchmark writes its file for Llamas only, and this is a {model_type}"
    wanted = ("llama_cpp", "gguf")
    gone = [name for name in wanted if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(gone)}" if gone else None


class LlamaCpp:
    """llama.cpp on the lab's model with the adapter added in, rounded to `kind`, Q4_0 or Q8_0.
    `run` is the `run` of a `Side`."""

    def __init__(self, lab: Lab, merged: Any, kind: str = "Q4_0") -> None:
        self.lab, self.merged, self.kind = lab, merged, kind

    @cached_property
    def model(self) -> Any:
        """Writes the file, rounds it, and loads it with as many threads as PyTorch has."""
        import llama_cpp

        exact, rounded = (self.lab.folder / f"{name}.gguf" for name in ("F16", self.kind))
        write_file(self.merged, load_tokenizer(self.lab.base), exact)
        wanted = llama_cpp.llama_model_quantize_default_params()
        wanted.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{self.kind}")
        wanted.nthread = torch.get_num_threads()
        if llama_cpp.llama_model_quantize(str(exact).encode(), str(rounded).encode(), wanted):
            raise SteerError(f"llama.cpp could not round the weights of {exact}")
        exact.unlink()
        return _load(rounded)

    def run(self, load: Load) -> float:
        """Samples at temperature 1 from all tokens, one text after another."""
        prompt = load_tokenizer(self.lab.base)(PROMPT)["input_ids"]
        made = sum(len(list(self._text(prompt, load.tokens))) for _ in range(load.records))
        check_tokens(made, load)
        return 0.0

    def _text(self, prompt: list[int], tokens: int) -> Iterator[int]:
        self.model.reset()
        wanted = {"temp": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0}
        for number, token in enumerate(self.model.generate(prompt, **wanted), start=1):
            yield token
            if number == tokens:
                return


def _load(path: Path) -> Any:
    import llama_cpp

    usual = llama_cpp.llama_model_default_params()
    # On a processor with AMX the kernels for it end the process (llama-cpp-python 0.3.36).
    usual.use_extra_bufts = "amx_int8" not in _flags()
    threads = torch.get_num_threads()
    with patch.object(llama_cpp.llama_cpp, "llama_model_default_params", lambda: usual):
        return llama_cpp.Llama(
            str(path),
            n_ctx=512,
            n_threads=threads,
            n_threads_batch=threads,
            seed=SEED,
            verbose=False,
        )


def _flags() -> set[str]:
    """What the processor can do, where Linux says so."""
    path = Path("/proc/cpuinfo")
    return set(path.read_text().split()) if path.exists() else set()


def write_file(model: Any, tokenizer: Any, path: Path) -> None:
    """Writes a Llama of Transformers as a GGUF file in fp16, with the tokenizer's vocabulary."""
    from gguf import GGUFWriter, LlamaFileType, TokenType

    config = model.config
    size = config.hidden_size // config.num_attention_heads
    out = GGUFWriter(path, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_dimension_count(size)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_file_type(LlamaFileType.MOSTLY_F16)
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list([word for word, _ in words])
    kinds = (TokenType.CONTROL if n in special else TokenType.NORMAL for _, n in words)
    out.add_token_types(list(kinds))
    # The prompt is given as token ids, so no merge is ever used, but no file loads without any.
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    out.add_token_merges([" ".join(merge) for merge in merges])
    out.add_eos_token_id(tokenizer.eos_token_id)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", None)):
            if part in name:
                values = _rotated(values, heads or config.num_key_value_heads)
        kind = np.float32 if values.ndim == 1 else np.float16
        out.add_tensor(_renamed(name), values.astype(kind))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _rotated(weight: np.ndarray, heads: int) -> np.ndarray:
    """Orders the outputs (heads x size, inputs) as llama.cpp's rotary embedding pairs them:
    neighbours, where Transformers pairs the two halves of a head."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)


def _renamed(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in NAMES:
        return f"{NAMES[stem]}.weight"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.weight"

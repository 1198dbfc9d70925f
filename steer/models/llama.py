"""Models of Llama's kind and LoRA adapters for them, read from their files alone.

Transformers and PEFT read any model; their imports take longer than all else before the first
token. What is read here is what they would read, or nothing: whatever is not known to be so, down
to a setting or a tensor's name, is left to them.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, settings_on

KINDS = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Kinds of model that are read, and Transformers' class of each."""

QUERIES, OUTPUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj"
GATES, DOWN = ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"
"""Linear layers of a layer; those of a tuple read the same tensor."""

BEFORE, BETWEEN = "input_layernorm", "post_attention_layernorm"
HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
EMBEDDING, LAST_NORM, HEAD = "model.embed_tokens", "model.norm", "lm_head"

_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)
"""What files raise that are damaged, or of another kind."""


@dataclass(frozen=True)
class Shape:
    """Shape of a model: `width` of what goes from layer to layer, `inner` of the feed-forward part,
    and the `frequencies` of the rotary embedding, fp32 (head_dim / 2,). `context` is how many
    tokens it can read, `biased` the linear layers with a bias, `norms` the norms of a layer, and
    `ends` the ids that it declares to end a text."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    eps: float
    tied: bool
    context: int
    frequencies: Tensor
    biased: frozenset[str]
    norms: tuple[str, ...]
    ends: int | list[int] | None

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Linear layers of a layer, and the shape (out, in) of each one's weight."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        outs = dict(zip(QUERIES, (q, kv, kv), strict=True))
        shapes = {name: (out, self.width) for name, out in outs.items()}
        shapes[OUTPUT] = (self.width, q)
        shapes |= dict.fromkeys(GATES, (self.inner, self.width))
        return shapes | {DOWN: (self.width, self.inner)}

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names of all tensors, and the shape of each."""
        table = (self.vocab, self.width)
        found: dict[str, tuple[int, ...]] = {f"{EMBEDDING}.weight": table}
        found[f"{LAST_NORM}.weight"] = (self.width,)
        if not self.tied:
            found[f"{HEAD}.weight"] = table
        for path in map(layer_path, range(self.layers)):
            for name, shape in self.linear.items():
                found[f"{path}.{name}.weight"] = shape
                if name in self.biased:
                    found[f"{path}.{name}.bias"] = shape[:1]
            for name in self.norms:
                size = self.head_dim if name in HEAD_NORMS else self.width
                found[f"{path}.{name}.weight"] = (size,)
        return found

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(map(math.prod, self.tensors.values()))


@dataclass(frozen=True)
class Llama:
    """A model: its shape, and its tensors by name, as they are stored."""

    shape: Shape
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class LowRank:
    """A LoRA adapter: for the path of a linear layer its matrices (rank, in) and (out, rank), as
    they are stored; their product times `scale` is added to the layer's weight."""

    scale: float
    pairs: Mapping[str, tuple[Tensor, Tensor]]


class Stored(Mapping[str, Tensor]):
    """Tensors in files of safetensors, each read when it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [safe_open(file, framework="pt") for file in files]
        self._places = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._places[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor, without reading it."""
        slices = {name: file.get_slice(name) for name, file in self._places.items()}
        return {name: tuple(each.get_shape()) for name, each in slices.items()}


def layer_path(number: int) -> str:
    """Path of a layer in the model, from 0."""
    return f"model.layers.{number}"


def read_llama(folder: Path) -> Llama | None:
    """Reads the model in `folder`; None for one of another kind, or where anything about it is not
    as it is known here."""
    with suppress(*_WRONG):
        config = _object(folder / "config.json")
        stored = Stored(sorted(folder.glob("*.safetensors")))
        shape = read_shape(config, _ends(folder, config))
        if stored.shapes() == shape.tensors:
            return Llama(shape, stored)
    return None


def read_shape(config: Mapping[str, Any], ends: int | list[int] | None) -> Shape:
    """Reads a shape from the settings of a model, as Transformers writes them. Raises `KeyError`,
    `ValueError` or `TypeError` for what is not known here."""
    kind = config["model_type"]
    if config["architectures"] != [KINDS[kind]] or config.get("quantization_config"):
        raise ValueError("of another kind")
    if config["hidden_act"] != "silu" or set(config.get("layer_types") or ()) - {"full_attention"}:
        raise ValueError("another activation, or attention of several kinds")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    head_dim = config.get("head_dim") or width // heads
    window = config["sliding_window"] if kind == "mistral" else None
    if config.get("use_sliding_window") or (kind == "qwen3" and "head_dim" not in config):
        raise ValueError("a window, or heads of a size that is not said")
    return Shape(
        layers=config["num_hidden_layers"],
        width=width,
        inner=config["intermediate_size"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=head_dim,
        vocab=config["vocab_size"],
        eps=config["rms_norm_eps"],
        tied=config["tie_word_embeddings"],
        # Within its window a model attends to everything.
        context=min(config.get("max_position_embeddings") or 2**31, window or 2**31),
        frequencies=_frequencies(config, head_dim),
        biased=_biased(kind, config),
        norms=(BEFORE, BETWEEN, *(HEAD_NORMS if kind == "qwen3" else ())),
        ends=ends,
    )


def read_low_rank(folder: Path, shape: Shape) -> LowRank | None:
    """Reads the adapter in `folder`; None for one that is more than LoRA on the linear layers of a
    model of this shape, or does not fit it."""
    with suppress(*_WRONG):
        config = _object(folder / ADAPTER_CONFIG)
        rank, targets = config["r"], config["target_modules"]
        # As it is called, and as no text: PEFT reads that as a regular expression.
        if not isinstance(targets, list) or settings_on(config) - {"use_rslora"}:
            return None
        layers = map(layer_path, range(shape.layers))
        outs = {f"{path}.{n}": size for path in layers for n, size in shape.linear.items()}
        chosen = {path for path in (*outs, HEAD, EMBEDDING) if _matches(path, targets)}
        stored = Stored([folder / ADAPTER_WEIGHTS])
        expected = {}
        for path in chosen:
            out, into = outs[path]
            expected[_stored(path, "A")] = (rank, into)
            expected[_stored(path, "B")] = (out, rank)
        if chosen and stored.shapes() == expected:
            pairs = {
                path: (stored[_stored(path, "A")], stored[_stored(path, "B")]) for path in chosen
            }
            root = math.sqrt(rank) if config.get("use_rslora") else rank
            return LowRank(config["lora_alpha"] / root, pairs)
    return None


def _matches(path: str, targets: Sequence[str]) -> bool:
    return any(path == target or path.endswith(f".{target}") for target in targets)


def _stored(path: str, matrix: str) -> str:
    return f"base_model.model.{path}.lora_{matrix}.weight"


def _object(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8")))


def _ends(folder: Path, config: Mapping[str, Any]) -> Any:
    """Ids that end a text: Transformers reads the model's own settings where there are none for
    generating."""
    file = folder / "generation_config.json"
    return (_object(file) if file.is_file() else config).get("eos_token_id")


def _biased(kind: str, config: Mapping[str, Any]) -> frozenset[str]:
    """Linear layers that have a bias."""
    if kind == "qwen2":
        return frozenset(QUERIES)
    attention = kind != "mistral" and config["attention_bias"]
    inner = kind == "llama" and config["mlp_bias"]
    return frozenset(
        (*((*QUERIES, OUTPUT) if attention else ()), *((*GATES, DOWN) if inner else ()))
    )


def _frequencies(config: Mapping[str, Any], head_dim: int) -> Tensor:
    """Frequencies of the rotary embedding (head_dim / 2,), in fp32 (Su et al. 2021,
    arXiv 2104.09864, section 3.4.2); for Llama 3.1 and later the slow ones are slower."""
    rope = config.get("rope_parameters")
    if not rope:
        rope = {"rope_theta": config["rope_theta"], **(config.get("rope_scaling") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1) != 1:
        raise ValueError("a rotary embedding of a part of a head")
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (rope["rope_theta"] ** steps)
    if kind == "default":
        return frequencies
    if kind != "llama3":
        raise ValueError("another rotary embedding")
    # How often each turns within the context that the model was first trained for.
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / rope["factor"]

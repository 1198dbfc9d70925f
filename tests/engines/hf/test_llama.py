"""Our own pass of models of Llama's kind, beside Transformers': fp32 scores to 1e-4."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from steer.config import Sampling
from steer.engines.hf import model as module
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.library import Library
from steer.engines.hf.llama import LlamaBody
from steer.engines.live import Order
from steer.errors import SteerError
from tests.engines.contract import (
    assert_exact,
    body_of,
    many,
    reference,
    save_adapter,
)
from tests.tiny import make_tokenizer

ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# A kind of model, and settings that change what it computes.
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    ("llama", {"rope_parameters": ROPE, "num_key_value_heads": 1, "head_dim": 12}),
    ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True, "rms_norm_eps": 0.1}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"head_dim": 16, "attention_bias": True}),
]


def save_kind(kind: str, settings: dict[str, Any], folder: Path) -> str:
    """A tiny random model of a kind, none of whose weights is as usual."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    given = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 512,
        "initializer_range": 0.2,
    }  # fmt: skip
    config = AutoConfig.for_model(kind, **(given | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.3)
            elif "norm" in name:
                torch.nn.init.normal_(weight, mean=1.0, std=0.2)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=str)
def test_every_kind_is_exact(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    base = save_kind(kind, settings, tmp_path / "base")
    adapter = save_adapter(base, tmp_path / "adapter")
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=2)
    assert isinstance(engine.model, LlamaBody)
    assert_exact(engine, reference(base, adapter), many(3), Sampling(max_new_tokens=5))


@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=str)
def test_both_bodies_say_the_same_of_a_model(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    base = save_kind(kind, settings, tmp_path / "base")
    own = HFEngine(base, dtype="float32", device="cpu")
    with body_of("library"):
        theirs = HFEngine(base, dtype="float32", device="cpu")
    assert isinstance(own.model, LlamaBody) and isinstance(theirs.model, Library)
    for name in ("kv_shape", "rep", "vocab", "context", "ends", "dtype", "device"):
        assert getattr(own.model, name) == getattr(theirs.model, name)
    assert own.may_merge == theirs.may_merge and own.ends.equal(theirs.ends)


def test_a_window_limits_the_context_and_another_is_left_to_transformers(tmp_path: Path) -> None:
    base = save_kind("mistral", {"sliding_window": 100}, tmp_path / "mistral")
    engine = HFEngine(base, dtype="float32", device="cpu")
    assert isinstance(engine.model, LlamaBody) and engine.model.context == 100
    sliding = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}
    base = save_kind("qwen2", sliding, tmp_path / "qwen2")
    assert isinstance(HFEngine(base, dtype="float32", device="cpu").model, Library)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_it_is_as_near_to_fp32_as_transformers_is(
    tiny_model: Path, tmp_path: Path, dtype: str
) -> None:
    """Both round, at other places: a text is about as likely by either."""
    adapter = save_adapter(str(tiny_model), tmp_path / "adapter", spread=0.05)
    text = (*range(10, 40), 1)
    means = []
    for body, kind in (("own", "float32"), ("own", dtype), ("library", dtype)):
        with body_of(body):
            engine = HFEngine(str(tiny_model), adapter, dtype=kind, device="cpu")
        live = engine.live(64)
        live.add([Order(many(1, gamma=0.3, eta=0.1)[0], Sampling(max_new_tokens=1), text)])
        while live.busy:
            ended = live.step()
        (found,) = (wrote.means for wrote in ended if wrote.means)
        means.append(torch.tensor(list(found.values())))
    exact, own, theirs = means
    assert (own - exact).abs().max() < 0.1
    assert (theirs - exact).abs().max() < 0.1


def test_several_adapters_and_none(tiny_model: Path, tmp_path: Path) -> None:
    """Of different layers and ranks; the first is the one of a call."""
    base = str(tiny_model)
    first = save_adapter(base, tmp_path / "a", rank=3, layers=["q_proj", "down_proj"])
    second = save_adapter(base, tmp_path / "b", seed=2)
    engine = HFEngine(base, [first, second], dtype="float32", device="cpu", rows=2)
    assert isinstance(engine.model, LlamaBody)
    assert_exact(engine, reference(base, first), many(3), Sampling(max_new_tokens=4))


def test_an_adapter_that_is_not_read_here_takes_all_to_transformers(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = str(tiny_model)
    plain = save_adapter(base, tmp_path / "plain")
    dora = save_adapter(base, tmp_path / "dora", dora=True)
    assert isinstance(HFEngine(base, plain, dtype="float32", device="cpu").model, LlamaBody)
    with pytest.raises(SteerError, match="only plain LoRA"):
        HFEngine(base, [plain, dora], dtype="float32", device="cpu")


def test_decoding_needs_neither_transformers_nor_peft(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = save_adapter(str(tiny_model), tmp_path / "adapter")
    expected = HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu").generate(
        many(2), Sampling(max_new_tokens=4)
    )
    for name in ("transformers", "peft", "steer.engines.hf.library"):
        monkeypatch.setitem(sys.modules, name, None)  # its import now fails
    engine = HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")
    assert engine.generate(many(2), Sampling(max_new_tokens=4)) == expected


def test_weights_do_not_change_with_their_file(tiny_model: Path, tmp_path: Path) -> None:
    """What was loaded is memory of its own, not the file's."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    engine = HFEngine(str(base), dtype="float32", device="cpu")
    expected = engine.generate(many(2), Sampling(max_new_tokens=4))
    file = base / "model.safetensors"
    with file.open("r+b") as weights:  # in place, as a copy over it would
        length = file.stat().st_size
        weights.seek(length // 10)
        weights.write(b"\x3f" * (length - length // 10))
    assert engine.generate(many(2), Sampling(max_new_tokens=4)) == expected


def test_the_path_that_is_taken_is_read_llamas(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`body_of` patches what the engine asks."""
    assert module.read_llama(tiny_model)
    with body_of("library"):
        assert module.read_llama(tiny_model) is None

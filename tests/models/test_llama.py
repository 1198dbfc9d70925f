"""Models and adapters that are read from their files alone: as Transformers and PEFT read them, or
not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from steer.models.base import load_model
from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from steer.models.llama import Llama, layer_path, read_llama, read_low_rank, read_shape

WEIGHTS = "model.safetensors"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def adapter(tiny_expert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_expert, tmp_path / "adapter")


def change(file: Path, **values: Any) -> None:
    """Changes values in a file of JSON; one that is ... is taken out."""
    found = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in found.items() if value is not ...}))


def read(folder: Path) -> Llama:
    found = read_llama(folder)
    assert found
    return found


def test_tensors_and_ends_are_those_of_transformers(model: Path) -> None:
    found, theirs = read(model), load_model(str(model), dtype="float32")
    assert found.shape.ends == theirs.generation_config.eos_token_id
    assert found.shape.parameters == theirs.num_parameters()
    for name, tensor in theirs.state_dict().items():
        if name != "lm_head.weight":  # tied
            assert torch.equal(found.tensors[name], tensor)


@pytest.mark.parametrize("rope", [{"rope_type": "default", "rope_theta": 3000.0}, LLAMA3])
@pytest.mark.parametrize("older", [False, True])
def test_the_rotary_embedding_is_that_of_transformers(rope: dict[str, Any], older: bool) -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=2, rope_parameters=rope)
    values = config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
    if older:  # as Transformers 4 wrote it
        del values["rope_parameters"]
        values |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
        if rope is LLAMA3:
            values["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    theirs = LlamaRotaryEmbedding(config).inv_freq
    torch.testing.assert_close(read_shape(values, 1).frequencies, theirs, rtol=1e-6, atol=0)


def test_weights_in_several_files(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    names = sorted(tensors)
    (model / WEIGHTS).unlink()
    for number, part in enumerate((names[:5], names[5:]), start=1):
        file = model / f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, file)
    found = read(model).tensors
    assert sorted(found) == names and len(found) == len(names)
    assert all(torch.equal(found[name], tensors[name]) for name in names)


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "gemma"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ...},
        {"hidden_act": "gelu"},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"quantization_config": {"quant_method": "gptq"}},
        {"use_sliding_window": True},
        {"num_key_value_heads": ...},
        {"tie_word_embeddings": ...},
        {"tie_word_embeddings": False},  # the output layer's weights are not in the file
        {"attention_bias": True},
        {"hidden_size": 64},
        {"num_hidden_layers": 3},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}},
        {"rope_parameters": {"rope_type": "default"}},
        {
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
            }
        },
        {"rope_parameters": ...},
    ],
    ids=str,
)
def test_a_model_of_another_kind_is_left_to_transformers(
    model: Path, values: dict[str, Any]
) -> None:
    assert read_llama(model)
    change(model / "config.json", **values)
    assert read_llama(model) is None


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "generation_config.json"])
@pytest.mark.parametrize("damage", [_cut, Path.unlink], ids=["cut", "gone"])
def test_damaged_files_are_left_to_transformers(
    model: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(model / name)
    found = read_llama(model)
    if name == "generation_config.json" and damage is Path.unlink:
        assert found and found.shape.ends == AutoConfig.from_pretrained(model).eos_token_id
    else:
        assert found is None


def test_a_tensor_more_is_left_to_transformers(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(8)
    save_file(tensors, model / WEIGHTS, {"format": "pt"})
    assert read_llama(model) is None


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj", "down_proj"], ["layers.1.mlp.up_proj"]]
)
def test_an_adapter_adds_what_peft_adds(
    model: Path, tmp_path: Path, rslora: bool, targets: str | list[str]
) -> None:
    config = LoraConfig(
        r=3, lora_alpha=8, target_modules=targets, use_rslora=rslora, task_type="CAUSAL_LM"
    )
    peft = get_peft_model(load_model(str(model), dtype="float32"), config)
    torch.manual_seed(0)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            weight.data.normal_()
    peft.save_pretrained(str(tmp_path / "made"))
    found = read_low_rank(tmp_path / "made", read(model).shape)
    assert found
    before = load_model(str(model), dtype="float32")
    merged = PeftModel.from_pretrained(
        load_model(str(model), dtype="float32"), str(tmp_path / "made")
    ).merge_and_unload()  # type: ignore[operator]
    for path in (f"{layer_path(i)}.{n}" for i in range(2) for n in read(model).shape.linear):
        added = merged.get_submodule(path).weight - before.get_submodule(path).weight
        assert (path in found.pairs) == bool(added.any())
        if path in found.pairs:
            down, up = found.pairs[path]
            torch.testing.assert_close(found.scale * up @ down, added, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"use_dora": True},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"layers_to_transform": [0]},
        {"exclude_modules": ["q_proj"]},
        {"something_new": True},
        {"target_modules": ".*_proj"},
        {"target_modules": ["q_proj"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": []},
        {"r": 5},
        {"r": ...},
    ],
    ids=str,
)
def test_an_adapter_of_another_kind_is_left_to_peft(
    model: Path, adapter: Path, values: dict[str, Any]
) -> None:
    shape = read(model).shape
    assert read_low_rank(adapter, shape)
    change(adapter / ADAPTER_CONFIG, **values)
    assert read_low_rank(adapter, shape) is None


@pytest.mark.parametrize("change", ["less", "more", "cut"])
def test_an_adapter_whose_weights_are_not_all_there_is_left_to_peft(
    model: Path, adapter: Path, change: str
) -> None:
    file = adapter / ADAPTER_WEIGHTS
    tensors = load_file(file)
    if change == "less":
        del tensors[min(tensors)]
    else:
        tensors["base_model.model.lm_head.weight"] = torch.ones(2)
    save_file(tensors, file)
    if change == "cut":
        _cut(file)
    assert read_low_rank(adapter, read(model).shape) is None

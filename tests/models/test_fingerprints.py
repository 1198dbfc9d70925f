import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig

from steer.models.base import model_fingerprint
from steer.models.expert import Expert
from steer.models.fingerprints import adapter_fingerprint, sampled_digest
from tests import tiny


def test_fingerprint_is_of_the_weights_not_the_folder(tiny_model: Path, tmp_path: Path) -> None:
    found = model_fingerprint(str(tiny_model))
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config |= {"transformers_version": "9", "_name_or_path": "elsewhere"}
    (copy / "config.json").write_text(json.dumps(config, indent=9))
    assert model_fingerprint(str(copy)) == found
    assert len(found) == 16
    other = tiny.save_tiny_model(tmp_path / "other", seed=1)
    assert model_fingerprint(str(other)) != found


def test_fingerprint_sees_config_and_single_bytes(tiny_model: Path, tmp_path: Path) -> None:
    found = model_fingerprint(str(tiny_model))
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_fingerprint(str(copy)) != found
    copy = shutil.copytree(tiny_model, tmp_path / "again")
    config = json.loads((copy / "config.json").read_text())
    config["rms_norm_eps"] *= 2
    (copy / "config.json").write_text(json.dumps(config))
    assert model_fingerprint(str(copy)) != found


def test_large_files_are_sampled_from_start_to_end(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(65_000_000)
    digests = {sampled_digest(file)}
    for position in (0, 64_999_999):
        with file.open("r+b") as stream:
            stream.seek(position)
            stream.write(b"x")
        digests.add(sampled_digest(file))
    assert len(digests) == 3


def test_adapter_fingerprint_is_of_the_weights_not_the_folder(
    tiny_expert: Path, tmp_path: Path
) -> None:
    found = Expert.load(tiny_expert).adapter_fingerprint
    copy = shutil.copytree(tiny_expert, tmp_path / "copy")
    assert Expert.load(copy).adapter_fingerprint == found
    weights = bytearray((copy / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "adapter_model.safetensors").write_bytes(weights)
    assert Expert.load(copy).adapter_fingerprint != found


def adapter(folder: Path, **settings: object) -> Path:
    """Folder of an adapter with these settings, and PEFT's own where there are none."""
    targets = ["q_proj", "up_proj", "v_proj"]
    settings = {"r": 32, "lora_alpha": 64, "task_type": "CAUSAL_LM"} | settings
    LoraConfig(target_modules=targets, **settings).save_pretrained(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_adapters_with_default_settings_keep_their_fingerprints(tmp_path: Path) -> None:
    """Runs and experts made by the first versions hold these."""
    assert adapter_fingerprint(adapter(tmp_path)) == "758750f845d0c1d9"
    bare = {"r": 4, "lora_alpha": 8, "target_modules": ["v_proj", "q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(bare))
    assert adapter_fingerprint(tmp_path) == "1fa4b0c6d3893988"


@pytest.mark.parametrize(
    "setting",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 9}},
        {"bias": "lora_only"},
        {"fan_in_fan_out": True},
        {"layers_to_transform": [0]},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_what_changes_an_adapter_changes_its_fingerprint(setting: dict, tmp_path: Path) -> None:
    plain = adapter_fingerprint(adapter(tmp_path / "plain", alpha_pattern={"q_proj": 7}))
    found = adapter_fingerprint(adapter(tmp_path / "changed", **setting))
    assert found not in ("758750f845d0c1d9", plain)


def test_names_and_dropout_do_not_change_an_adapters_fingerprint(tmp_path: Path) -> None:
    named = adapter(
        tmp_path,
        base_model_name_or_path="elsewhere",
        inference_mode=True,
        lora_dropout=0.1,
        revision="main",
    )
    assert adapter_fingerprint(named) == "758750f845d0c1d9"

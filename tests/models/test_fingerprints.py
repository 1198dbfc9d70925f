import json
import shutil
from pathlib import Path

from steer.models.base import model_fingerprint
from steer.models.expert import Expert
from steer.models.fingerprints import sampled_digest
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

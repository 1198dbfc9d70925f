"""Fingerprints of models and adapters, made from the files in their folders."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from steer.errors import SteerError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHTS = ("*.safetensors", "*.bin")
# An adapter's settings that do not change what it computes: names, and what only training reads.
_NAMES = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "parent_library",
    "peft_version",
    "revision",
    "task_type",
)
_SCALE = ("r", "lora_alpha", "target_modules")
# Settings of PEFT that are off at these values; the others are off when they are empty.
_OFF = {
    "bias": "none",
    "init_lora_weights": True,
    "megatron_core": "megatron.core",
    "peft_type": "LORA",
    "qalora_group_size": 16,
}
_VOLATILE = ("transformers_version", "torch_dtype", "dtype", "architectures", "use_cache")


def folder_fingerprint(folder: Path, name: str) -> str:
    """Fingerprint of a model's folder: 16 hex digits that are the same for the same model in any
    folder. Raises `SteerError` when there are no weights of the model `name` in it.

    Made from the config, the sizes of the weight files and sampled bytes of them: reading all
    of a large model would take longer than loading it.
    """
    weights = [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]
    if not weights:
        raise SteerError(f"{name} has no weights in {folder} (*.safetensors or *.bin)")
    config = json.loads((folder / "config.json").read_text())
    stable = {k: v for k, v in config.items() if k not in _VOLATILE and not k.startswith("_")}
    digest = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
    for file in weights:
        digest.update(sampled_digest(file))
    return digest.hexdigest()[:16]


def adapter_fingerprint(folder: Path) -> str:
    """Fingerprint of an adapter: 16 hex digits over its weights and every setting that changes what
    they do; not over names and versions."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    scale = [config["r"], config["lora_alpha"], sorted(config["target_modules"])]
    # Without settings that are on, the digest is the one that runs and experts hold since before.
    settings = {name: config[name] for name in config if name in settings_on(config)}
    content = json.dumps([*scale, settings] if settings else scale, sort_keys=True)
    weights = sampled_digest(folder / ADAPTER_WEIGHTS)
    return hashlib.sha256(content.encode() + weights).hexdigest()[:16]


def settings_on(config: Mapping[str, object]) -> set[str]:
    """Names of an adapter's settings that change what it computes, beside its rank, its scale and
    the layers that it is for."""
    given = {name for name, value in config.items() if value and value != _OFF.get(name)}
    return given - {*_NAMES, *_SCALE}


def sampled_digest(file: Path, samples: int = 256, size: int = 4096) -> bytes:
    """SHA-256 of the file's length, and of its bytes: all of them up to 64 MB, then only
    `samples` evenly spaced pieces of `size` bytes."""
    length = file.stat().st_size
    digest = hashlib.sha256(str(length).encode())
    with file.open("rb") as stream:
        if length <= 64_000_000:
            digest.update(stream.read())
        else:
            for piece in range(samples):
                stream.seek(piece * (length - size) // (samples - 1))
                digest.update(stream.read(size))
    return digest.digest()

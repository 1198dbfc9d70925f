"""Base models: their names, where they are, and how they are loaded."""

import contextlib
import logging
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from safetensors import SafetensorError

from steer.errors import SteerError
from steer.models.fingerprints import ADAPTER_CONFIG, WEIGHTS, folder_fingerprint
from steer.models.machine import computes, warn_of_others
from steer.models.packaged import EMBEDDED, GEMMA, default_model, packaged_model
from steer.quiet import quiet_loading, quiet_logs

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

DType = Literal["auto", "float32", "bfloat16", "float16", "int8"]
INT8 = "int8"
"""Dtype of weights only, which the hf engine alone reads; it computes in that of "auto"."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What Transformers, PEFT, torch and safetensors raise for files that are damaged or do not fit.
FAILURES = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
)

_EMULATED = (
    "this {device} does not compute in {dtype}: every product is converted, which takes several "
    "times as long; --dtype float32 is faster here"
)


class Encoded(Protocol):
    """Token ids, of one text or of each of several."""

    @property
    def input_ids(self) -> Any: ...


class Tokenizer(Protocol):
    """The part of a tokenizer of Transformers that decoding needs."""

    eos_token: Any
    eos_token_id: Any
    bos_token: Any
    bos_token_id: Any

    def __call__(
        self, text: Any, *, add_special_tokens: bool = ..., split_special_tokens: bool = ...
    ) -> Encoded: ...

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> Any: ...

    def get_vocab(self) -> dict[str, int]: ...

    def __len__(self) -> int: ...


def resolve_model(name: str | None) -> str:
    """Finds the folder or hub id that Transformers can load for `name` (None: the default).

    A packaged model (the embedded one, Gemma 3 270M) is converted once, to bf16 safetensors in the
    user's cache. Raises `SteerError` for a folder that is missing or holds no model, and for a
    package that is not installed.
    """
    name = name or default_model()
    path = Path(name).expanduser()
    if path.is_dir():
        return str(_check_folder(path))
    if name in (EMBEDDED, GEMMA):
        with _readable(name):
            return str(packaged_model(name))
    if path.exists():
        raise SteerError(f"{name} is a file; a model is a folder, a hub id or {EMBEDDED}")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise SteerError(f"no such model folder: {name}; check the path")
    return name


def load_model(
    name: str | None = None, dtype: str | torch.dtype = "auto", device: str = "auto"
) -> "PreTrainedModel":
    """Loads a causal language model in evaluation mode; `name` as in `resolve_model`.

    Code that comes with a model never runs: `SteerError` where a model cannot be had without.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    where = pick_device(device)
    path = resolve_model(name)
    with _loading(name or path):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        _check_causal(name or path, config)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, config=config, dtype=pick_dtype(dtype, where), trust_remote_code=False
        )
    loaded: PreTrainedModel = model.to(where).eval()
    if where.type == "cpu":
        warn_of_others()
    return loaded


def attach_adapter(
    model: "PreTrainedModel", folder: Path, name: str = "default", beside: "PeftModel | None" = None
) -> "PeftModel":
    """Lets PEFT put the adapter in `folder` into `model` under a name, `beside` those that it put
    there before. Raises `SteerError` when it does not fit or is no file of plain tensors."""
    from peft import PeftModel

    try:
        with quiet_logs():
            # Without memory of their own, weights that the file lacks are found; else PEFT would
            # go on with random and zero ones.
            if beside is None:
                attached = PeftModel.from_pretrained(
                    model, str(folder), name, low_cpu_mem_usage=True
                )
            else:
                attached = beside
                attached.load_adapter(str(folder), name, low_cpu_mem_usage=True)
    except FAILURES as error:
        raise SteerError(
            f"the adapter in {folder} does not fit its base model: {reason_of(error)}"
        ) from None
    lacking = [path for path, weight in attached.named_parameters() if weight.is_meta]
    if lacking:
        raise SteerError(
            f"the adapter in {folder} lacks {len(lacking)} of its weights, such as {lacking[0]}; "
            "copy or fit it again"
        )
    return attached


def load_tokenizer(name: str | None = None) -> "PreTrainedTokenizerBase":
    """Loads the model's tokenizer, with an end-of-text token, which also pads if nothing else
    does."""
    from transformers import AutoTokenizer

    path = resolve_model(name)
    with _loading(name or path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise SteerError(f"the tokenizer of {name or path} has no end-of-text token; set eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(model: "PreTrainedModel") -> int:
    """Number of tokens that the model can read; without a limit in its config, as good as none."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encodes a prompt to token ids: as the tokenizer begins a text (with its begin-of-text token,
    if it adds that), but not ended. A prompt without any token is the start of text. Special tokens
    may be spelled in it. Fitting, judges and engines all use this."""
    ended = text.endswith(str(tokenizer.eos_token))
    return _begun(tokenizer, tokenizer(text).input_ids, ended)


def encode_start(tokenizer: Tokenizer, text: str) -> list[int]:
    """Encodes a text that more follows, without a prompt: begun as in `encode_prompt`, its special
    tokens split as in `encode_texts`."""
    return _begun(tokenizer, tokenizer(text, split_special_tokens=True).input_ids, False)


def _begun(tokenizer: Tokenizer, ids: list[int], ended: bool) -> list[int]:
    """Cuts off the end that the tokenizer added to `ids`, unless the text is `ended` itself."""
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id and not ended:
        return ids[:-1]
    if ids:
        return ids
    start = tokenizer.bos_token_id
    return [int(tokenizer.eos_token_id if start is None else start)]


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each of `texts` to token ids, to stand after a prompt: neither begun nor ended. A
    special token that a text spells is plain characters: the text does not end there."""
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True
    ).input_ids
    return ids


def pick_device(device: str = "auto") -> torch.device:
    """Picks `device`, or for "auto" the GPU when there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SteerError(
            f"device {device!r} cannot be used: {reason}; choose another --device"
        ) from None
    return torch.device(device)


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Picks `dtype`, or for "auto" bf16 where the hardware multiplies it natively, else fp32. Warns
    of a named one that the hardware does not multiply."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in DTYPES:
        if not computes(DTYPES[dtype], device):
            log.warning(_EMULATED.format(dtype=dtype, device=device.type))
        return DTYPES[dtype]
    if dtype != "auto":
        names = ", ".join(DTYPES)
        raise SteerError(f"unknown dtype {dtype!r}; choose one of auto, {names} with --dtype")
    return torch.bfloat16 if computes(torch.bfloat16, device) else torch.float32


def model_fingerprint(path_or_id: str) -> str:
    """Computes 16 hex digits that are the same for the same weights in any folder; downloads the
    model if need be. Raises `SteerError` as `resolve_model` does, and when there are no weights."""
    return folder_fingerprint(model_folder(path_or_id), path_or_id)


def model_folder(path_or_id: str) -> Path:
    """Finds the model's folder, or the hub's snapshot of it, downloaded if need be. Raises
    `SteerError` as `resolve_model` does, and for a model that cannot be had."""
    path = resolve_model(path_or_id)
    if Path(path).is_dir():
        return Path(path)
    from transformers.utils import cached_file

    with _loading(path_or_id):
        folder = Path(str(cached_file(path, "config.json"))).parent
        if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
            from transformers import AutoModelForCausalLM  # seconds more

            AutoModelForCausalLM.from_pretrained(path, dtype="auto", trust_remote_code=False)
    return folder


def _check_folder(path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    if (path / ADAPTER_CONFIG).is_file():
        raise SteerError(f"{path} is an expert (an adapter), not a base model; name its base")
    raise SteerError(f"{path} is a folder without config.json, so no model; name a model's folder")


def _check_causal(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    architectures = config.architectures or []
    if architectures and not known.intersection(architectures):
        raise SteerError(f"{name} is no causal language model but {', '.join(architectures)}")


@contextlib.contextmanager
def _loading(name: str) -> Iterator[None]:
    """Loads in silence, and turns what goes wrong in Transformers into a `SteerError`."""
    with _readable(name), quiet_loading():
        yield


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what goes wrong with the files of the model `name` into a `SteerError`."""
    try:
        yield
    except FAILURES as error:
        raise SteerError(
            f"cannot load model {name} (a folder, a hub id or {EMBEDDED}): {reason_of(error)}"
        ) from None


def reason_of(error: Exception) -> str:
    """What went wrong in the libraries, in one line, without advice on options that we lack."""
    if isinstance(error, pickle.UnpicklingError):
        return (
            "its weights are a pickle that holds more than tensors, which could run code; "
            "use safetensors"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SafetensorError):
        return f"its weights are damaged or no safetensors file ({reason[:300]})"
    if "trust_remote_code" in reason:
        return "it brings code of its own, which steer does not run; choose another model"
    return reason[:300]

"""Adopting of adapters: an expert made of a LoRA that somebody else fitted."""

import json
import shutil
from pathlib import Path
from typing import Any

from steer.data.tasks import Task
from steer.errors import SteerError
from steer.files import new_folder, refuse_existing
from steer.models.base import model_fingerprint
from steer.models.expert import CARD, Expert, FitSettings, Lengths
from steer.models.fingerprints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_fingerprint
from steer.version import __version__


def adopt(
    adapter: Path, task: Task, out: Path, base: str | None = None, max_new_tokens: int = 128
) -> Expert:
    """Makes an expert at `out` of the LoRA in the folder `adapter`, for `task`.

    What it was fitted on is not known, so its card has no losses, and no text counts as held out.
    Raises `SteerError` when there is no LoRA adapter, `out` exists or the base model, by default
    the one that the adapter names, cannot be found.
    """
    refuse_existing(out)
    config = _config(adapter)
    name = base or config.get("base_model_name_or_path")
    if not name:
        raise SteerError(f"{adapter} does not say what its base model is; name it with --base")
    path = Path(str(name)).expanduser()
    name = str(path.resolve()) if path.is_dir() else str(name)
    fingerprint = model_fingerprint(name)
    limit = task.max_new_tokens or max_new_tokens
    with new_folder(out) as folder:
        shutil.copy(adapter / ADAPTER_WEIGHTS, folder)
        values = config | {"base_model_name_or_path": name}
        (folder / ADAPTER_CONFIG).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        expert = Expert(
            path=out,
            adapter_fingerprint=adapter_fingerprint(folder),
            task_name=task.name,
            prompt=task.prompt,
            labels=task.labels,
            form=task.form,
            pattern=task.pattern,
            shape=task.shape,
            min_chars=task.min_chars,
            max_new_tokens=limit,
            base=name,
            base_fingerprint=fingerprint,
            data_source=f"unknown (adopted from {adapter})",
            data_fingerprint="unknown",
            rows=0,
            dropped=0,
            held_out=(),
            completion_tokens=Lengths(mean=limit / 2, p95=limit, max=limit),
            losses=(),
            best_epoch=0,
            settings=FitSettings(rank=config["r"], alpha=config.get("lora_alpha", config["r"])),
            warnings=("It was adopted: what it was fitted on is not known.",),
            steer_version=__version__,
        )
        (folder / CARD).write_text(expert.model_dump_json(indent=2) + "\n", "utf-8")
    return expert


def _config(adapter: Path) -> dict[str, Any]:
    """Reads the settings of a LoRA adapter. Raises `SteerError` when there is none."""
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (adapter / name).is_file():
            raise SteerError(f"{adapter} is no adapter that PEFT saved: there is no {name} in it")
    try:
        config: dict[str, Any] = json.loads((adapter / ADAPTER_CONFIG).read_text("utf-8"))
        kind = config["peft_type"]
        int(config["r"] if kind == "LORA" else 0)
    except (ValueError, TypeError, KeyError) as error:
        raise SteerError(f"{adapter / ADAPTER_CONFIG} is damaged: {error!r}") from None
    if kind != "LORA":
        raise SteerError(f"{adapter} is an adapter of the kind {kind}; only LoRA can be steered")
    return config

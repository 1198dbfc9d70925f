"""Judges by name: experts, and causal models as they are."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from steer.errors import SteerError
from steer.expert import Expert
from steer.metrics.cache import Cache
from steer.metrics.coherence import Judge
from steer.models import load_model, load_tokenizer, model_fingerprint, pick_dtype
from steer.quiet import quiet_logs
from steer.tasks import PLACEHOLDER, Task

CARD = "expert.json"


def load_judge(
    name: str,
    prompt: str | None = None,
    labels: Sequence[str] = (),
    cache: Cache | None = None,
) -> Judge:
    """The judge called `name`: an expert's folder, or a causal model's folder, hub id or package
    (`steer.models`).

    An expert reads a text after its own prompt and expects the end of text after it; it judges
    fairly if it was fitted on other real texts than those that are evaluated or generated from.
    Any other model reads it after `prompt` (which may hold `{label}`, for the `labels` there are)
    or after nothing. Raises SteerError when the judge cannot be loaded.
    """
    if (Path(name).expanduser() / CARD).is_file():
        return replace(_expert(Expert.load(Path(name).expanduser())), name=name, cache=cache)
    task = None
    if prompt is not None:
        task = Task(prompt, tuple(sorted(set(labels))) if PLACEHOLDER in prompt else ())
    return Judge(
        name, model_fingerprint(name), load_model(name), load_tokenizer(name), task, cache=cache
    )


def _expert(expert: Expert) -> Judge:
    found = model_fingerprint(expert.base)
    if found != expert.base_fingerprint:
        raise SteerError(
            f"{expert.path} was fitted on another version of {expert.base} than the one that is "
            "here; fit it again to use it as a judge"
        )
    return Judge(
        str(expert.path),
        f"{found} {expert.adapter_fingerprint}",
        _merged(expert),
        load_tokenizer(expert.base),
        expert.task,
        ends=True,
    )


def _merged(expert: Expert) -> Any:
    """Base and adapter in one, added up in fp32 before they are rounded."""
    from peft import PeftModel

    base = load_model(expert.base, dtype="float32")
    with quiet_logs():
        model = PeftModel.from_pretrained(base, str(expert.path)).merge_and_unload()
    dtype: torch.dtype = pick_dtype("auto", base.device)
    return model.to(dtype).eval()

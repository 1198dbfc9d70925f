"""The card of a published expert: what it was made from, and how to load it."""

from typing import Any

import yaml

from steer.models.expert import Expert
from steer.runs.card import CardSettings
from steer.runs.formats import markdown


def expert_card(expert: Expert, base: str, settings: CardSettings) -> str:
    """Writes the README.md of a PEFT repository; `base` is what others call its base model."""
    losses = "\n".join(
        f"| {loss.epoch or 'base'} | {'' if loss.train is None else f'{loss.train:.3f}'} | "
        f"{loss.held_out:.3f} |"
        for loss in expert.losses
    )
    return _CARD.format(
        header=yaml.safe_dump(_header(base, settings), sort_keys=False, allow_unicode=True),
        base=base,
        own=f", on this machine `{expert.base}`" if base != expert.base else "",
        fingerprint=expert.base_fingerprint,
        licence=settings.base_license or "not known to steer: see its page",
        source=markdown(expert.data_source),
        data=expert.data_fingerprint,
        trained=expert.trained_on,
        held_out=len(expert.held_out),
        dropped=expert.dropped,
        prompt="\n".join(f"    {line}" for line in expert.prompt.splitlines()),
        labels=markdown(", ".join(expert.labels)) or "none",
        losses=losses or "| not measured | | |",
        version=expert.steer_version,
        settings=f"    {expert.settings.model_dump_json()}",
        measured=settings.measured or "What it writes was not measured when this card was written.",
    )


def _header(base: str, settings: CardSettings) -> dict[str, Any]:
    given: dict[str, Any] = {"license": settings.license, "language": list(settings.languages)}
    return {name: value for name, value in given.items() if value} | {
        "base_model": base,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["steer", "lora", "base_model:adapter:" + base],
    }


_CARD = """\
---
{header}---

# An expert made with steer

A LoRA adapter that writes texts like those it was fitted on. The loss was on the text, not on the
prompt. It is meant to be steered (arXiv 2308.07645), and loads with plain PEFT too:

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("this repository")
```

| from | name | fingerprint |
| --- | --- | --- |
| base model | `{base}`{own} (licence: {licence}) | `{fingerprint}` |
| real texts | `{source}`: {trained} to train, {held_out} held out, {dropped} too long | `{data}` |

Prompt (labels: {labels}):

{prompt}

| epoch | loss | held-out loss |
| ---: | ---: | ---: |
{losses}

Losses are nats a token. With steer {version}, settings:

{settings}

## How good it is

{measured}

## Limits

It can write what stands in the texts that it was fitted on, word for word: whoever has it may get
some of them out of it. It is as wrong and as biased as they and its base model are. What the
licences of both ask for holds for it.
"""

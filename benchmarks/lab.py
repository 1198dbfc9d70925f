"""Lab that all sides share: base model, adapter, real texts, prompt and panels, in one folder."""

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.utils import logging as transformers_logging

from benchmarks.shapes import SHAPES, corpus_tokenizer, random_model
from steer.config import PanelForm
from steer.data.corpus import Corpus, load_corpus
from steer.data.tasks import Task
from steer.guidance import Shown
from steer.models.base import load_model, pick_device, resolve_model
from steer.models.expert import Expert
from steer.quiet import quiet_logs
from steer.runs.pool import Pool, draw_panels, render_panel

PROMPT = "The first line of the docstring of a function or class in Python's standard library:\n"
TEXTS = 600
PANEL_SIZE = 10
RANK = 32
SEED = 0

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Lab:
    """Folder of a benchmark: `base` is what Transformers can load; the adapter and the texts are in
    `folder`."""

    folder: Path
    base: str
    device: str

    @classmethod
    def open(cls, folder: Path) -> "Lab":
        """Opens a lab that another process prepared."""
        return cls(folder, **json.loads((folder / "lab.json").read_text()))

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @cached_property
    def corpus(self) -> Corpus:
        """Real texts: one-line summaries of the standard library's docstrings."""
        return load_corpus(str(self.folder / "corpus.jsonl"))

    @property
    def task(self) -> Task:
        return Task(PROMPT)

    def panels(self, count: int, form: PanelForm) -> list[Shown]:
        """Contexts of the negative stream, the same that the first round of a run draws."""
        pool = Pool(self.corpus, labelled=False)
        drawn = draw_panels(pool, count, size=PANEL_SIZE, seed=SEED, round=0, label=None)
        return [render_panel(panel, form, self.task, self.task.render()) for panel in drawn]


def prepare(folder: Path, model: str | None, device: str) -> Lab:
    """Writes everything into `folder`. `model` is a name in `SHAPES`, for random weights, or
    what `steer` takes as a base model; None is the default one."""
    where = str(pick_device(device))
    texts = write_corpus(folder)
    if model in SHAPES:
        base = folder / "base"
        dtype = torch.float32 if model == "tiny" else torch.bfloat16
        transformers_logging.disable_progress_bar()
        random_model(model, where, dtype).save_pretrained(base)
        corpus_tokenizer(texts, model).save_pretrained(base)
        name = str(base)
    else:
        name = resolve_model(model)
    lab = Lab(folder, name, where)
    write_adapter(load_model(name), lab.adapter)
    (folder / "lab.json").write_text(json.dumps({"base": name, "device": where}))
    return lab


def stand_in(prompt: str, base: str, adapter: str = "benchmark") -> Expert:
    """Stand-in for an expert, with all that a run asks of it; `base` and `adapter` are
    fingerprints, with no model behind."""
    known: dict[str, Any] = {
        "path": Path("benchmark"),
        "prompt": prompt,
        "labels": (),
        "max_new_tokens": 128,
    }
    known |= {"base": "benchmark", "base_fingerprint": base, "adapter_fingerprint": adapter}
    return Expert.model_construct(**known)


def write_corpus(folder: Path) -> list[str]:
    """Writes the real texts, with the command that the documentation shows; returns them."""
    path, every = folder / "corpus.jsonl", folder / "every.jsonl"
    command = [sys.executable, str(_ROOT / "examples" / "docstrings.py"), str(every)]
    subprocess.run(command, check=True)
    lines = every.read_text("utf-8").splitlines()
    random.Random(SEED).shuffle(lines)
    path.write_text("\n".join(lines[:TEXTS]) + "\n", "utf-8")
    return [json.loads(line)["text"] for line in lines[:TEXTS]]


def write_adapter(model: Any, out: Path) -> None:
    """Writes a LoRA adapter on all linear layers, of random weights small enough to leave the model
    sensible; `model` itself is left without it."""
    torch.manual_seed(SEED)
    settings = LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with quiet_logs():
        peft = get_peft_model(model, settings, autocast_adapter_dtype=False)
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.002)
        peft.save_pretrained(str(out), save_embedding_layers=False)
        peft.unload()

"""Streams as they read real texts: the expert, and what guidance could move it away from."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.lab import Lab
from benchmarks.study.plan import SHARES
from steer.engines.tokens import encode
from steer.guidance import Shown
from steer.models.base import encode_texts, load_model, load_tokenizer
from steer.runs.pool import Example, render_panel
from steer.seeds import derive

EARLY = tuple(f"1/{share} of the steps" for share in SHARES)
INSIDE = "base, inside"
STREAMS = ("expert", "base", INSIDE, "negative", *EARLY)
"""`base, inside` is the base model without its say on the first two tokens and on where a text
ends; the last ones are the expert as it was on its way (autoguidance, arXiv 2406.02507)."""

OPENING = 2
LEAST = -60.0  # nats: a token that a stream rules out would have an infinite gradient


@dataclass(frozen=True)
class Text:
    """Text as the streams read it: fp16 `log_probs` (streams, tokens, vocab), and its tokens."""

    log_probs: Tensor
    tokens: Tensor


class Reader:
    """Reads the streams of a cell's expert, each text read whole."""

    def __init__(self, lab: Lab, size: int = 10) -> None:
        self.lab, self.task, self.size = lab, lab.expert.task, size
        self.tokenizer = load_tokenizer(lab.expert.base)

    @cached_property
    def model(self) -> Any:
        """Base model with the expert's adapter, and with those of its way."""
        from peft import PeftModel

        model = PeftModel.from_pretrained(
            load_model(self.lab.expert.base), str(self.lab.expert.path), adapter_name="expert"
        )
        for name, path in self._early.items():
            model.load_adapter(path, name)
        return model.eval()

    @property
    def _early(self) -> Mapping[str, str]:
        folder = self.lab.work / "early" / self.lab.cell.expert
        return {f"1-{share}": str(folder / f"1-{share}") for share in SHARES}

    def read(self, text: str, label: str | None, seed: int) -> Text:
        """Computes the log-probabilities of `STREAMS` for each token of a text and its end."""
        prompt = self.task.render(label)
        (ids,) = encode_texts(self.tokenizer, [self.task.completion(text)])
        ids = [*ids, self.tokenizer.eos_token_id]
        expert, base = self._read("expert", prompt, ids), self._read(None, prompt, ids)
        negative = self._read("expert", self._panel(label, seed), ids)
        early = [self._read(name, prompt, ids) for name in self._early]
        found = [expert, base, inside(expert, base, ids[-1]), negative, *early]
        return Text(torch.stack(found).clamp_min(LEAST).half(), torch.tensor(ids))

    def _panel(self, label: str | None, seed: int) -> Shown:
        fit = self.lab.fit
        rows = [i for i in range(len(fit.texts)) if not fit.labels or fit.labels[i] == label]
        chosen = np.random.default_rng(derive(seed, "panel")).choice(rows, self.size, replace=False)
        examples = [Example(f"real:{row}", fit.texts[row]) for row in chosen]
        return render_panel(examples, "prompted", self.task, self.task.render(label))

    @torch.inference_mode()
    def _read(self, adapter: str | None, context: str | Shown, ids: Sequence[int]) -> Tensor:
        start = encode(self.tokenizer, context)
        if adapter:
            self.model.set_adapter(adapter)
        with nullcontext() if adapter else self.model.disable_adapter():
            logits: Tensor = self.model(torch.tensor([[*start, *ids]])).logits
        return logits[0, len(start) - 1 : -1].float().log_softmax(-1)


def inside(expert: Tensor, other: Tensor, end: int) -> Tensor:
    """Gives `other` (tokens, vocab) the expert's log-probabilities of the first two tokens and of
    the `end` of text, so that weights that sum to 1 guide neither."""
    found = other.clone()
    found[:OPENING] = expert[:OPENING]
    found[:, end] = expert[:, end]
    return found

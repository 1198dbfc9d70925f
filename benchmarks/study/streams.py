"""Streams on real texts, where guidance acts: what each stream says of real texts, token by token.

For a real text that no stream has read, the expert's log-probability of the next token less the
base model's (what gamma adds) and less the negative's (what eta adds), with the entropy of each
stream. By place in the text: the first token, the second to fourth, the rest, and the end of text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.lab import Lab
from steer.config import PanelForm
from steer.engines.tokens import encode
from steer.guidance import Shown
from steer.models.base import encode_texts, load_model, load_tokenizer
from steer.runs.pool import Example, render_panel
from steer.seeds import derive

STREAMS = ("expert", "base", "negative")
PLACES = ("first", "2 to 4", "rest", "end")


@dataclass(frozen=True)
class Reading:
    """Log-probability of one token of one text under one stream, in nats."""

    place: str
    log_prob: float
    entropy: float
    plausible: int
    """Tokens that are at least a hundredth as likely as the best."""


class Reader:
    """Reads the streams of a task's expert, each text read whole."""

    def __init__(self, lab: Lab, panel_form: PanelForm, size: int = 10) -> None:
        from peft import PeftModel

        self.lab, self.task = lab, lab.expert.task
        self.tokenizer = load_tokenizer(lab.expert.base)
        self.model: Any = PeftModel.from_pretrained(
            load_model(lab.expert.base), str(lab.expert.path)
        ).eval()
        self.panel_form, self.size = panel_form, size

    def streams(self, text: str, label: str | None, seed: int) -> dict[str, list[Reading]]:
        """Reads a text under the expert, the base model and the negative stream."""
        logits, ids = self.logits(text, label, seed)
        log_probs = logits.log_softmax(-1)
        return {
            name: list(_readings(each, ids.tolist()))
            for name, each in zip(STREAMS, log_probs, strict=True)
        }

    def logits(self, text: str, label: str | None, seed: int) -> tuple[Tensor, Tensor]:
        """Computes the logits of `STREAMS` for each token of a text and its end, fp32 (streams,
        tokens, vocab), and the tokens."""
        prompt = self.task.render(label)
        (ids,) = encode_texts(self.tokenizer, [self.task.completion(text)])
        ids = [*ids, self.tokenizer.eos_token_id]
        with self.model.disable_adapter():
            base = self._read(prompt, ids)
        negative = self._read(self._panel(label, seed), ids)
        return torch.stack([self._read(prompt, ids), base, negative]), torch.tensor(ids)

    def _panel(self, label: str | None, seed: int) -> Shown:
        fit = self.lab.fit
        rows = [i for i in range(len(fit.texts)) if not fit.labels or fit.labels[i] == label]
        chosen = np.random.default_rng(derive(seed, "panel")).choice(rows, self.size, replace=False)
        examples = [Example(f"real:{row}", fit.texts[row]) for row in chosen]
        return render_panel(examples, self.panel_form, self.task, label)

    @torch.inference_mode()
    def _read(self, context: str | Shown, ids: Sequence[int]) -> Tensor:
        start = encode(self.tokenizer, context)
        logits: Tensor = self.model(torch.tensor([[*start, *ids]])).logits
        return logits[0, len(start) - 1 : -1].float()


def _readings(log_probs: Tensor, ids: Sequence[int]) -> Iterator[Reading]:
    entropy = -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)
    best = log_probs.amax(-1, keepdim=True)
    plausible = (log_probs >= best - float(np.log(100))).sum(-1)
    for i, token in enumerate(ids):
        place = "end" if i == len(ids) - 1 else PLACES[0 if i == 0 else 1 if i < 4 else 2]
        yield Reading(place, float(log_probs[i, token]), float(entropy[i]), int(plausible[i]))


def summary(lab: Lab, panel_form: PanelForm, texts: int) -> dict[str, dict[str, dict[str, float]]]:
    """Computes means by place and stream over real texts of the part for validation."""
    reader, corpus = Reader(lab, panel_form), lab.corpus("validation")
    labels = corpus.labels or [None] * len(corpus.texts)
    found: dict[str, dict[str, list[Reading]]] = {place: {} for place in PLACES}
    for i, (text, label) in enumerate(list(zip(corpus.texts, labels, strict=True))[:texts]):
        for stream, readings in reader.streams(text, label, i).items():
            for each in readings:
                found[each.place].setdefault(stream, []).append(each)
    return {
        place: {
            stream: {
                name: fmean(getattr(each, name) for each in readings)
                for name in ("log_prob", "entropy", "plausible")
            }
            for stream, readings in by_stream.items()
        }
        for place, by_stream in found.items()
    }

"""Judges: causal language models that did not write the texts whose likelihood they tell, by name
an expert or a model as it is."""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedTokenizerBase

from steer.data.tasks import PLACEHOLDER, Task
from steer.errors import SteerError
from steer.models.base import (
    context_length,
    encode_prompt,
    encode_texts,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_dtype,
)
from steer.models.cache import Cache, OnTexts, remembered
from steer.models.expert import CARD, Expert
from steer.quiet import quiet_logs

IGNORE = -100
LOGITS = 2**25
"""Most logits computed at once: what a large vocabulary needs memory for."""


@dataclass(frozen=True)
class Judge:
    """A causal model that reads each text after `task`'s prompt, or after nothing.

    `ends`: the end of text counts as a token of the text, for a model fitted to write it.
    `fingerprint` stands for all that the model is; what it computes is kept in `cache`.
    """

    name: str
    fingerprint: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    task: Task | None = None
    ends: bool = False
    cache: Cache | None = None

    def log_likelihoods(
        self,
        texts: Sequence[str],
        labels: Sequence[str] | None = None,
        on_texts: OnTexts | None = None,
    ) -> np.ndarray:
        """Computes the mean log-likelihood of each text in nats a token, fp64 (texts,), read after
        the prompt for its label. Raises SteerError when the prompt needs labels that the texts do
        not have.

        A text's tokens beyond the model's context do not count. `on_texts(done, total)` counts
        distinct texts.
        """
        labelled = self.task is not None and bool(self.task.labels)
        given = labels if labels is not None and labelled else [None] * len(texts)
        scores = np.empty(len(texts))
        groups: dict[str | None, list[int]] = {}
        for i, label in enumerate(given):
            groups.setdefault(label, []).append(i)
        sizes = {label: len({texts[i] for i in rows}) for label, rows in groups.items()}
        done = 0
        for label, rows in groups.items():
            report = _shifted(on_texts, done, sum(sizes.values()))
            scores[rows] = self._means([texts[i] for i in rows], label, report)
            done += sizes[label]
        return scores

    def cut(self, texts: Sequence[str]) -> int:
        """Counts the distinct `texts` that the model cannot read to their ends, after any
        prompt."""
        labels = (self.task.labels if self.task else ()) or (None,)
        starts = (encode_prompt(self.tokenizer, self._context(label)) for label in labels)
        start = max(map(len, starts))
        longest = context_length(self.model) - start
        return sum(len(ids) > longest for ids in self._tokens(sorted(set(texts))))

    def _context(self, label: str | None) -> str:
        return self.task.render(label) if self.task else ""

    def _means(self, texts: list[str], label: str | None, on_texts: OnTexts | None) -> np.ndarray:
        context = self._context(label)
        what = [self.fingerprint, str(self.model.dtype), context, self._completion("-"), self.ends]
        space = f"log-likelihood {json.dumps(what)}"
        reader = _Reader(self.model, encode_prompt(self.tokenizer, context))
        totals = remembered(
            self.cache, space, texts, lambda some: reader.read(self._tokens(some)), on_texts
        ).astype(np.float64)
        return totals[:, 0] / totals[:, 1]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        ids = encode_texts(self.tokenizer, [self._completion(text) for text in texts])
        end = [int(self.tokenizer.eos_token_id)] if self.ends else []
        return [[*each, *end] for each in ids]

    def _completion(self, text: str) -> str:
        return self.task.completion(text) if self.task else text


@dataclass(frozen=True)
class _Reader:
    """Reads texts after token ids that they all share, computed once."""

    model: Any
    start: list[int]

    @torch.inference_mode()
    def read(self, texts: list[list[int]]) -> np.ndarray:
        """Computes the summed log-likelihood in nats and the number of tokens of each text, (texts,
        2)."""
        room = max(1, context_length(self.model) - len(self.start))
        tokens = [torch.tensor(ids[:room]) for ids in texts]
        first, past = self._prefill()
        totals = np.empty((len(tokens), 2))
        for rows in _batches([len(ids) for ids in tokens], int(self.model.config.vocab_size)):
            batch = [tokens[row] for row in rows]
            totals[rows, 0] = self._sums(batch, first, past)
            totals[rows, 1] = [len(ids) for ids in batch]
        return totals

    def _prefill(self) -> tuple[Tensor, DynamicCache]:
        """Computes logits (1, vocab) after the start, and its key-value cache."""
        ids = torch.tensor([self.start], device=self.model.device)
        out = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
        if not isinstance(out.past_key_values, DynamicCache):
            kind = type(self.model).__name__
            raise SteerError(f"{kind} keeps no key-value cache; choose another model as judge")
        return out.logits[:, -1], out.past_key_values

    def _sums(self, batch: list[Tensor], first: Tensor, past: DynamicCache) -> list[float]:
        device = self.model.device
        ids = pad_sequence(batch, batch_first=True).to(device)
        lengths = torch.tensor([len(each) for each in batch], device=device)
        held = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        cache = copy.deepcopy(past)
        cache.batch_repeat_interleave(len(batch))
        before = torch.ones(len(batch), len(self.start), dtype=torch.bool, device=device)
        logits = self.model(
            input_ids=ids,
            attention_mask=torch.cat([before, held], dim=1).long(),
            past_key_values=cache,
            use_cache=True,
        ).logits
        # Every logit is used but those at a text's last token, which predict what is not there.
        targets = ids.roll(-1, dims=1).masked_fill(~held.roll(-1, dims=1), IGNORE)
        targets[:, -1] = IGNORE
        flat = logits.flatten(0, 1).float()
        loss = cross_entropy(flat, targets.flatten(), ignore_index=IGNORE, reduction="none")
        opening = cross_entropy(first.expand(len(batch), -1).float(), ids[:, 0], reduction="none")
        sums: list[float] = (-loss.view_as(ids).double().sum(dim=1) - opening).tolist()
        return sums


def _batches(lengths: Sequence[int], vocab: int) -> Iterator[list[int]]:
    """Groups rows to read together: alike in length, and within `LOGITS`."""
    rows = sorted(range(len(lengths)), key=lambda row: lengths[row])
    while rows:
        size = max(1, LOGITS // (vocab * lengths[rows[-1]]))
        yield rows[-size:]
        del rows[-size:]


def _shifted(on_texts: OnTexts | None, before: int, total: int) -> OnTexts | None:
    """Turns progress of one group of texts into progress of all."""
    if on_texts is None:
        return None
    report = on_texts
    return lambda done, _: report(before + done, total)


def load_judge(
    name: str,
    prompt: str | None = None,
    labels: Sequence[str] = (),
    cache: Cache | None = None,
) -> Judge:
    """Loads the judge called `name`: an expert's folder, or a causal model's folder, hub id or
    package (`steer.models.base`).

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
    fingerprint = model_fingerprint(expert.base)
    if fingerprint != expert.base_fingerprint:
        raise SteerError(
            f"{expert.path} was fitted on another version of {expert.base} than the one that is "
            "here; fit it again to use it as a judge"
        )
    return Judge(
        str(expert.path),
        f"{fingerprint} {expert.adapter_fingerprint}",
        _merged(expert),
        load_tokenizer(expert.base),
        expert.task,
        ends=True,
    )


def _merged(expert: Expert) -> Any:
    """Merges base and adapter into one model, added up in fp32 before they are rounded."""
    from peft import PeftModel

    base = load_model(expert.base, dtype="float32")
    with quiet_logs():
        model = PeftModel.from_pretrained(base, str(expert.path)).merge_and_unload()
    dtype: torch.dtype = pick_dtype("auto", base.device)
    return model.to(dtype).eval()

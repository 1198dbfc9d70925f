"""Judges: causal language models that did not write the texts whose likelihood they tell, by name
an expert or a model as it is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from steer.data.reading.settings import Reading
from steer.data.tasks import PLACEHOLDER, Task
from steer.errors import SteerError
from steer.models.base import (
    attach_adapter,
    context_length,
    encode_prompt,
    encode_texts,
    load_model,
    load_tokenizer,
    model_fingerprint,
    pick_dtype,
)
from steer.models.cache import CHUNK, Cache, OnTexts, remembered
from steer.models.expert import CARD, Expert
from steer.models.ngrams import PREFIX, NgramJudge, load_ngram_judge
from steer.models.reading import Reader
from steer.models.readings import RARE, Readings, figures
from steer.quiet import quiet_logs

_CHUNK = {"cpu": 32}  # texts read between two reports: some seconds on two cores


@dataclass(frozen=True)
class Judge:
    """A causal model that reads each text after `task`'s prompt, or after nothing.

    `ends`: the end of text counts as a token of the text, for a model fitted to write it.
    `fingerprint` stands for all that the model is; what it computes is kept in `cache`. `base` is
    the fingerprint of the base model alone.
    """

    name: str
    fingerprint: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    task: Task | None = None
    ends: bool = False
    cache: Cache | None = None
    base: str = ""

    def read(
        self,
        texts: Sequence[str],
        labels: Sequence[str] | None = None,
        on_texts: OnTexts | None = None,
    ) -> Readings:
        """Reads each text after the prompt for its label. Raises SteerError when the prompt needs
        labels that the texts do not have.

        A text's tokens beyond the model's context do not count. `on_texts(done, total)` counts
        distinct texts.
        """
        labelled = self.task is not None and bool(self.task.labels)
        given = labels if labels is not None and labelled else [None] * len(texts)
        found = np.empty((len(texts), len(fields(Readings))))
        groups: dict[str | None, list[int]] = {}
        for i, label in enumerate(given):
            groups.setdefault(label, []).append(i)
        sizes = {label: len({texts[i] for i in rows}) for label, rows in groups.items()}
        done = 0
        for label, rows in groups.items():
            report = _shifted(on_texts, done, sum(sizes.values()))
            found[rows] = self._read([texts[i] for i in rows], label, report)
            done += sizes[label]
        return Readings(*found.T)

    def cut(self, texts: Sequence[str]) -> int:
        """Counts the distinct `texts` that the model cannot read to their ends, after any
        prompt."""
        labels = (self.task.labels if self.task else ()) or (None,)
        starts = (encode_prompt(self.tokenizer, self._context(label)) for label in labels)
        start = max(map(len, starts))
        longest = context_length(self.model) - start
        return sum(len(ids) > longest for ids in self._tokens(sorted(set(texts))))

    def is_sibling(self, base: str | None) -> bool:
        """Whether it is of the same base model as the texts that it is to judge: it finds them
        likely by construction. Where that `base` is not known, every expert counts as one."""
        return self.ends if base is None else self.base == model_fingerprint(base)

    def _context(self, label: str | None) -> str:
        return self.task.render(label) if self.task else ""

    def _read(self, texts: list[str], label: str | None, on_texts: OnTexts | None) -> np.ndarray:
        """Computes the figures (texts, 5) of texts with one label, in the order of `Readings`."""
        context = self._context(label)
        what = [self.fingerprint, str(self.model.dtype), context, self._completion("-"), self.ends]
        space = f"reading {json.dumps([*what, RARE, [each.name for each in fields(Readings)]])}"
        reader = Reader(self.model, encode_prompt(self.tokenizer, context))

        def compute(some: list[str]) -> np.ndarray:
            return np.array([figures(values) for values in reader.read(self._tokens(some))])

        chunk = _CHUNK.get(self.model.device.type, CHUNK)
        return remembered(self.cache, space, texts, compute, on_texts, chunk)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        ids = encode_texts(self.tokenizer, [self._completion(text) for text in texts])
        end = [int(self.tokenizer.eos_token_id)] if self.ends else []
        return [[*each, *end] for each in ids]

    def _completion(self, text: str) -> str:
        return self.task.completion(text) if self.task else text


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
    reading: Reading | None = None,
) -> Judge | NgramJudge:
    """Loads the judge called `name`: an expert's folder, a causal model's folder, hub id or package
    (`steer.models.base`), or `ngrams:DATA` (`steer.models.ngrams`), which needs no model; its data
    is read as `reading` says.

    An expert reads a text after its own prompt and expects the end of text after it; it judges
    fairly if it was fitted on other real texts than those that are evaluated or generated from.
    Any other model reads it after `prompt` (which may hold `{label}`, for the `labels` there are)
    or after nothing. Raises SteerError when the judge cannot be loaded.
    """
    if name.startswith(PREFIX):
        return load_ngram_judge(name, reading)
    if (Path(name).expanduser() / CARD).is_file():
        return replace(_expert(Expert.load(Path(name).expanduser())), name=name, cache=cache)
    task = None
    if prompt is not None:
        task = Task(prompt, tuple(sorted(set(labels))) if PLACEHOLDER in prompt else ())
    fingerprint = model_fingerprint(name)
    model, tokenizer = load_model(name), load_tokenizer(name)
    return Judge(name, fingerprint, model, tokenizer, task, cache=cache, base=fingerprint)


def base_fingerprint(name: str) -> str:
    """Finds the fingerprint of the base model that the judge called `name` is of, without loading
    the judge. Raises SteerError when there is no such judge."""
    folder = Path(name).expanduser()
    if (folder / CARD).is_file():
        return Expert.load(folder).base_fingerprint
    return model_fingerprint(name)


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
        base=fingerprint,
    )


def _merged(expert: Expert) -> Any:
    """Merges base and adapter into one model, added up in fp32 before they are rounded."""
    base = load_model(expert.base, dtype="float32")
    model: Any = attach_adapter(base, expert.path)
    with quiet_logs():
        model = model.merge_and_unload()
    dtype: torch.dtype = pick_dtype("auto", base.device)
    return model.to(dtype).eval()

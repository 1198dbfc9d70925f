"""Texts as a fit reads them: token ids, and the passes through the model that they are read in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models.base import encode_prompt, encode_texts


class Encoded(TypedDict):
    """Tokens of a text. `input_ids`: prompt, completion and end of text; `prompt`: how many of them
    are prompt."""

    input_ids: list[int]
    prompt: int


@dataclass(frozen=True)
class Pass:
    """Texts read in one pass. `inputs` is what the model takes; `where` (n,) are the states that
    predict a completion's token, counted through all rows, and `targets` (n,) those tokens."""

    inputs: dict[str, Tensor]
    where: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Pass":
        inputs = {name: each.to(device) for name, each in self.inputs.items()}
        return Pass(inputs, self.where.to(device), self.targets.to(device))


def encode(corpus: Corpus, task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Encodes texts, one element each. The prompt is encoded alone, as in generation, so that what
    follows it there begins at the same token boundary."""
    labels: Sequence[str | None] = corpus.labels or [None] * len(corpus.texts)
    prompts = {label: encode_prompt(tokenizer, task.render(label)) for label in set(labels)}
    completions = encode_texts(tokenizer, [task.completion(text) for text in corpus.texts])
    return [
        {
            "input_ids": [*prompts[label], *completion, tokenizer.eos_token_id],
            "prompt": len(prompts[label]),
        }
        for label, completion in zip(labels, completions, strict=True)
    ]


def completions(examples: Sequence[Encoded]) -> int:
    """Counts the tokens of all completions, the ends of the texts included."""
    return sum(len(example["input_ids"]) - example["prompt"] for example in examples)


def padded(examples: Sequence[Encoded], pad: int) -> Pass:
    """Lays texts out as rows (rows, longest), padded to the right."""
    width = max(len(example["input_ids"]) for example in examples)
    ids = torch.full((len(examples), width), pad)
    mask = torch.zeros_like(ids)
    where: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        tokens, prompt = example["input_ids"], example["prompt"]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        where += range(row * width + prompt - 1, row * width + len(tokens) - 1)
        targets += tokens[prompt:]
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Pass(inputs, torch.tensor(where), torch.tensor(targets))


def completion_loss(model: Any, read: Pass) -> Tensor:
    """Computes the loss in nats, fp32, summed over the tokens of all completions.

    Only states that predict one of them meet the output layer: over a large vocabulary the logits
    of prompts and padding would cost more than a layer does.
    """
    read = read.to(model.device)
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(
        lambda _, states: (states[0].flatten(0, 1)[read.where][None],)
    )
    try:
        logits = model(**read.inputs, use_cache=False).logits.flatten(0, -2)
    finally:
        hook.remove()
    if len(logits) != len(read.where):  # a model that does not call its output layer
        logits = logits[read.where]
    return cross_entropy(logits.float(), read.targets, reduction="sum")


def split_passes(examples: Sequence[Encoded], most: int) -> Iterator[list[Encoded]]:
    """Divides texts among passes of at most `most` tokens, padding included, the longest texts
    first; a longer text has a pass of its own."""
    chosen: list[Encoded] = []
    for example in sorted(examples, key=lambda each: -len(each["input_ids"])):
        longest = len((chosen or [example])[0]["input_ids"])
        if chosen and (len(chosen) + 1) * longest > most:
            yield chosen
            chosen = []
        chosen.append(example)
    if chosen:
        yield chosen

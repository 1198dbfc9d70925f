"""Texts as a fit reads them: token ids, prompt and completion."""

from collections.abc import Sequence
from typing import TypedDict

from transformers import PreTrainedTokenizerBase

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models.base import encode_prompt, encode_texts
from steer.models.prompts import render_chats, text_prompts


class Encoded(TypedDict):
    """Tokens of a text. `input_ids`: prompt, completion and end of text; `prompt`: how many of them
    are prompt."""

    input_ids: list[int]
    prompt: int


def encode(corpus: Corpus, task: Task, tokenizer: PreTrainedTokenizerBase) -> list[Encoded]:
    """Encodes texts, one element each. The prompt is encoded alone, as in generation, so that what
    follows it there begins at the same token boundary."""
    before = text_prompts(corpus, task, render_chats(corpus, task, tokenizer))
    prompts = {prompt: encode_prompt(tokenizer, prompt) for prompt in set(before)}
    completions = encode_texts(tokenizer, [task.completion(text) for text in corpus.texts])
    return [
        {
            "input_ids": [*prompts[prompt], *completion, tokenizer.eos_token_id],
            "prompt": len(prompts[prompt]),
        }
        for prompt, completion in zip(before, completions, strict=True)
    ]


def prompt_of(example: Encoded) -> tuple[int, ...]:
    """Token ids of a text's prompt."""
    return tuple(example["input_ids"][: example["prompt"]])


def completions(examples: Sequence[Encoded]) -> int:
    """Counts the tokens of all completions, the ends of the texts included."""
    return sum(len(example["input_ids"]) - example["prompt"] for example in examples)

"""Texts as a fit reads them: their tokens."""

import pytest

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models.examples import encode
from tests import tiny

TEXTS = ("Why does the moon shine?", "How?", "Is </s> the end of <pad> or <s>?")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer()


def test_an_example_is_prompt_then_text_then_end(tokenizer) -> None:
    corpus = Corpus(TEXTS, None, "test")
    for text, example in zip(TEXTS, encode(corpus, Task("Q:"), tokenizer), strict=True):
        ids, prompt = example["input_ids"], example["prompt"]
        assert tokenizer.decode(ids[:prompt]) == "Q:"
        assert tokenizer.decode(ids[prompt:-1]) == f" {text}"
        assert ids[-1] == tokenizer.eos_token_id


def test_a_text_that_spells_the_end_does_not_end(tokenizer) -> None:
    (example,) = encode(Corpus(TEXTS[2:], None, "test"), Task("Q:"), tokenizer)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(example["input_ids"][:-1])


def test_each_text_has_the_prompt_of_its_label(tokenizer) -> None:
    corpus = Corpus(TEXTS, ("why", "how", "why"), "test")
    examples = encode(corpus, Task("A {label} one:", ("how", "why")), tokenizer)
    prompts = [tokenizer.decode(example["input_ids"][: example["prompt"]]) for example in examples]
    assert prompts == ["A why one:", "A how one:", "A why one:"]

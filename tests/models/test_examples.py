"""Texts as a fit reads them: their tokens, their layout, their loss."""

import pytest
import torch

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models.examples import Encoded, completion_loss, encode, padded, split_passes
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


def test_only_completions_are_predicted_even_where_the_end_is_the_padding() -> None:
    examples = [
        Encoded(input_ids=[5, 6, 7, 9], prompt=2),
        Encoded(input_ids=[5, 8, 9], prompt=1),
    ]
    read = padded(examples, pad=9)
    assert read.inputs["input_ids"].tolist() == [[5, 6, 7, 9], [5, 8, 9, 9]]
    assert read.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert (read.where.tolist(), read.targets.tolist()) == ([1, 2, 4, 5], [7, 9, 8, 9])


def naive_loss(model, example) -> float:
    """Nats of the completion, one token after the other, each from its whole context."""
    ids, nats = example["input_ids"], 0.0
    for position in range(example["prompt"], len(ids)):
        logits = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1]
        nats -= torch.log_softmax(logits, dim=-1)[ids[position]].item()
    return nats


def test_loss_equals_a_naive_one_whatever_is_in_the_pass(tokenizer) -> None:
    model = tiny.make_model(len(tokenizer))
    corpus = Corpus(TEXTS, ("why", "a much longer label", "why"), "test")
    examples = encode(corpus, Task("A {label} one:", corpus.label_names), tokenizer)
    with torch.no_grad():
        loss = completion_loss(model, padded(examples, pad=tokenizer.pad_token_id))
        expected = sum(naive_loss(model, example) for example in examples)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("most", [1, 12, 30, 1000])
def test_passes_hold_every_text_once_within_their_tokens(most: int) -> None:
    lengths = [7, 3, 12, 3, 5, 30, 1]
    examples = [Encoded(input_ids=[row] * length, prompt=1) for row, length in enumerate(lengths)]
    passes = list(split_passes(examples, most))
    assert sorted(each["input_ids"][0] for part in passes for each in part) == list(range(7))
    for part in passes:
        assert len(part) == 1 or padded(part, 0).inputs["input_ids"].numel() <= most

"""Layouts of texts in passes: the same losses, whatever they stand beside."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models import footprint
from steer.models.base import load_model, load_tokenizer
from steer.models.examples import Encoded, encode
from steer.models.footprint import peak_bytes
from steer.models.layouts import (
    Packed,
    Padded,
    completion_loss,
    find_layout,
    split_passes,
    token_losses,
)
from steer.models.packaged import EMBEDDED, default_model
from tests import tiny

REAL = (
    "Where would you find a seat that moves you forward?",
    "What do people do when they are tired of waiting?",
    "Why is the rotation of young stars so slow?",
    "How do the winds of massive stars change over time?",
    "What might a person see at the scene of a brutal killing?",
    "Where is a good place to keep a rubber stamp?",
    "Can the mass of a black hole be read from its spectrum?",
    "Which galaxies form the most stars, and when?",
)
TEXTS = ("Why does the moon shine?", "How?", "Is </s> the end?", "Why?")
PACKED, PADDED = Packed(torch.float32), Padded(2)


@pytest.fixture(scope="module")
def model():
    return tiny.make_model(384)


@pytest.fixture(scope="module")
def examples() -> list[Encoded]:
    corpus = Corpus(TEXTS, ("why", "a much longer label", "why", "how"), "test")
    task = Task("A {label} one:", corpus.label_names)
    return encode(corpus, task, tiny.make_tokenizer())


TWO = [Encoded(input_ids=[5, 6, 7, 9], prompt=2), Encoded(input_ids=[5, 6, 8], prompt=2)]


def test_padded_rows_predict_completions_only_even_where_the_end_is_the_padding() -> None:
    read = Padded(9).lay_out(TWO)
    assert read.inputs["input_ids"].tolist() == [[5, 6, 7, 9], [5, 6, 8, 9]]
    assert read.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert (read.where.tolist(), read.targets.tolist()) == ([1, 2, 5], [7, 9, 8])


def test_packed_texts_follow_their_prompt_and_do_not_see_each_other() -> None:
    other = Encoded(input_ids=[4, 7, 7], prompt=1)
    read = PACKED.lay_out([*TWO, other, Encoded(input_ids=[5, 6, 3, 3], prompt=2)])
    assert read.inputs["input_ids"].tolist() == [[5, 6, 7, 3, 4, 7]]
    assert read.inputs["position_ids"].tolist() == [[0, 1, 2, 2, 0, 1]]
    assert (read.where.tolist(), read.targets.tolist()) == (
        [1, 2, 1, 1, 3, 4, 5],
        [7, 9, 8, 3, 3, 7, 7],
    )
    seen = (read.inputs["attention_mask"][0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def naive_loss(model, example) -> float:
    """Nats of the completion, one token after the other, each from its whole context."""
    ids, nats = example["input_ids"], 0.0
    for position in range(example["prompt"], len(ids)):
        logits = model(input_ids=torch.tensor([ids[:position]])).logits[0, -1]
        nats -= torch.log_softmax(logits, dim=-1)[ids[position]].item()
    return nats


@pytest.mark.parametrize("layout", [PACKED, PADDED])
def test_loss_equals_a_naive_one_whatever_is_in_the_pass(model, examples, layout) -> None:
    with torch.no_grad():
        loss = completion_loss(model, layout.lay_out(examples))
        expected = sum(naive_loss(model, example) for example in examples)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layout", [PACKED, PADDED])
@pytest.mark.parametrize("most", [1, 12, 30, 1000])
def test_passes_hold_every_text_once_within_their_tokens(layout, most: int) -> None:
    lengths = [7, 3, 12, 3, 5, 30, 2]
    examples = [Encoded(input_ids=[row] * length, prompt=1) for row, length in enumerate(lengths)]
    passes = split_passes(layout, examples, most)
    assert sorted(each["input_ids"][0] for part in passes for each in part) == list(range(7))
    for part in passes:
        assert layout.lay_out(part).tokens == layout.size(part)
        assert len(part) == 1 or layout.size(part) <= most


@dataclass(frozen=True)
class Unmasked:
    """A model whose texts see each other in one row, as those with a state do."""

    model: Any

    def __call__(self, attention_mask, **given):
        return self.model(**given)

    def __getattr__(self, name: str):
        return getattr(self.model, name)


@dataclass(frozen=True)
class Refusing(Unmasked):
    """A model that knows no masks of this form."""

    def __call__(self, attention_mask, **given):
        if attention_mask.dim() == 4:
            raise ValueError("a mask has two dimensions")
        return self.model(attention_mask=attention_mask, **given)


def test_a_model_that_mixes_packed_texts_up_reads_rows(model, examples) -> None:
    same = encode(Corpus(TEXTS, None, "test"), Task("Q:"), tiny.make_tokenizer())
    assert find_layout(model, same, 2) == PACKED
    assert find_layout(Unmasked(model), same, 2) == PADDED
    assert find_layout(Refusing(model), same, 2) == PADDED


ONE, ALL = torch.tensor([0.6] + [0.0] * 19), torch.full((20,), 0.3)


@pytest.mark.parametrize(
    ("dtype", "apart", "packs"),
    [
        (torch.bfloat16, ONE, True),  # what rounding does to a token
        (torch.bfloat16, ALL, False),
        (torch.float32, ONE, False),
        (torch.float32, torch.zeros(20), True),
    ],
)
def test_rounding_of_a_token_is_no_mixing_up(
    dtype: torch.dtype, apart: torch.Tensor, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([torch.ones(20), 1 + apart])
    monkeypatch.setattr("steer.models.layouts.token_losses", lambda *_: next(losses))
    model = tiny.make_model(384).to(dtype)
    assert isinstance(find_layout(model, TWO, 2), Packed) == packs


def test_filled_rows_change_no_loss_and_have_few_sizes(model, examples) -> None:
    filled = Packed(torch.float32, filled=True)
    read = filled.lay_out(examples)
    assert (read.tokens % 16, len(read.targets) % 16) == (0, 0)
    found = token_losses(model, read)
    torch.testing.assert_close(found, token_losses(model, PACKED.lay_out(examples)))
    sizes = {filled.lay_out([text_of(length)]).tokens for length in range(2, 2000)}
    assert len(sizes) < 100
    assert max(sizes) < 2000 * 17 / 16


def text_of(tokens: int) -> Encoded:
    return Encoded(input_ids=[3] * tokens, prompt=1)


@pytest.mark.skipif(default_model() != EMBEDDED, reason="the embedded model is not installed")
def test_a_real_model_reads_packed_texts_in_bf16_though_it_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The losses of a token differ by up to 0.5 nats there, by 0.06 on the mean.
    real = load_model(EMBEDDED, dtype=torch.bfloat16)
    same = encode(Corpus(REAL, None, "test"), Task("A question:"), load_tokenizer(EMBEDDED))
    assert isinstance(find_layout(real, same, 2), Packed)
    assert find_layout(Unmasked(real), same, 2) == PADDED
    monkeypatch.setattr(Packed, "lay_out", at_wrong_positions(Packed.lay_out))
    assert find_layout(real, same, 2) == PADDED


def at_wrong_positions(lay_out):
    """Positions counted through the whole row, as a model has them that heeds none."""

    def wrong(self, examples):
        read = lay_out(self, examples)
        positions = torch.arange(read.inputs["input_ids"].shape[1])[None]
        return replace(read, inputs={**read.inputs, "position_ids": positions})

    return wrong


def test_texts_beyond_a_sliding_window_are_read_in_rows(examples) -> None:
    model = tiny.make_model(384)
    model.config.sliding_window = 8
    assert find_layout(model, examples, 2) == PADDED


def test_the_largest_pass_decides_on_the_memory(
    model, examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "_in_use", lambda device: 0)
    model.requires_grad_(False)
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(True)
    one, all_of_them = examples[:1], examples * 50
    few, many, both = (
        peak_bytes(model, PACKED, passes) for passes in ([one], [all_of_them], [one, all_of_them])
    )
    assert both == many > 10 * few

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from steer.models import reading
from steer.models.reading import Reader, batches, log_probabilities
from tests import tiny

VOCAB = 300
GEMMA = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "sliding_window": 6,  # shorter than start and texts
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.4,
}


def llama() -> PreTrainedModel:
    return tiny.make_model(VOCAB)


def gemma3() -> PreTrainedModel:
    return Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA))


def gemma2() -> PreTrainedModel:
    """A model with a soft cap on its logits, so that the head alone does not make them."""
    return Gemma2ForCausalLM(Gemma2Config(**GEMMA, final_logit_softcapping=3.0))


def gpt2() -> PreTrainedModel:
    sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **sizes, initializer_range=0.2))


def make(kind: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def draw_texts(seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [draw.choices(range(3, VOCAB), k=k) for k in (5, 1, 12, 0, 7, 12, 2)]


@pytest.mark.parametrize("most", [1, 30, 1024])
@pytest.mark.parametrize("length", [1, 9])
@pytest.mark.parametrize("kind", [llama, gemma3, gemma2, gpt2])
def test_tokens_read_together_are_read_as_alone(
    kind: Callable[[], PreTrainedModel], length: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TOKENS", {"cpu": most})
    model, start, texts = make(kind), list(range(10, 10 + length)), draw_texts()
    reader = Reader(model, start)
    found = reader.read(texts)
    for ids, values in zip(texts, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([start + ids])).logits[0, length - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(ids, dtype=int)[:, None])[:, 0]
        assert values == pytest.approx(expected.numpy(), abs=1e-4) and values.dtype == np.float64
    assert (reader._head is None) == (kind is gemma2)


def test_the_start_is_read_once() -> None:
    model = make(llama)
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    reader = Reader(model, list(range(10, 19)))
    for _ in range(3):
        reader.read(draw_texts())
    assert seen.count(9) == 1


@pytest.mark.parametrize("part", [1, 1000, 2**20])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])  # the last one overflows on most rows
@pytest.mark.parametrize("biased", [True, False])
def test_sums_in_parts_equal_a_softmax(
    part: int, scale: float, biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PART", {"cpu": part})
    draw = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 16, generator=draw) for n in (20, 70))
    bias = torch.randn(70, generator=draw) if biased else None
    targets = torch.randint(70, (20,), generator=draw)
    logits = torch.nn.functional.linear(scale * states.double(), weight.double())
    logits += 0 if bias is None else bias.double()
    expected = logits.log_softmax(-1)[range(20), targets]
    found = log_probabilities(scale * states, targets, weight, bias)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert (expected.min() < -88) == (scale == 30.0)
    assert found.max() <= 0


def test_logits_in_bf16_are_summed_in_fp32() -> None:
    draw = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 16, generator=draw).bfloat16() for n in (20, 5000))
    targets = torch.randint(5000, (20,), generator=draw)
    logits = torch.nn.functional.linear(states, weight).float()
    expected = logits.log_softmax(-1)[range(20), targets]
    assert torch.allclose(log_probabilities(states, targets, weight), expected, atol=1e-4)


def test_batches_are_alike_in_length_and_within_the_limit() -> None:
    lengths = random.Random(0).choices(range(60), k=200)
    found = list(batches(lengths, most=300))
    assert sorted(row for rows in found for row in rows) == [i for i in range(200) if lengths[i]]
    for rows in found:
        assert len(rows) * max(lengths[row] for row in rows) <= 300
    assert len(found) < 1.3 * sum(lengths) / 300
    assert list(batches([500, 2], most=300)) == [[0], [1]]

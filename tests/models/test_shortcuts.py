"""Shortcuts of a fit: the same products and attention, as near to exact ones as PEFT's own."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.models import shortcuts
from steer.models.examples import Encoded, encode
from steer.models.expert import FitSettings
from steer.models.fitting import _add_adapter
from steer.models.layouts import Packed, Padded, completion_loss
from steer.models.machine import processor
from steer.models.shortcuts import attention
from tests import tiny

packs = pytest.mark.skipif(
    torch.bfloat16 not in processor().packed, reason="this processor packs no bf16"
)
Gradients = dict[str, Tensor]


@pytest.fixture(scope="module")
def examples() -> list[Encoded]:
    corpus = Corpus(tiny.TEXTS[:6], None, "test")
    return encode(corpus, Task(tiny.PROMPT), tiny.make_tokenizer())


def adapted(dtype: torch.dtype, short: bool, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny model with an adapter that says something; with the same weights in any dtype."""
    with monkeypatch.context() as patch:
        if not short:
            patch.setattr("steer.models.fitting.take_shortcuts", lambda model: None)
        base = tiny.make_model(384).to(torch.bfloat16).to(dtype)
        model = _add_adapter(base, FitSettings(rank=4, alpha=8))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    return model.train()


def loss_and_gradients(model: Any, layout: Any, examples: list[Encoded]) -> tuple[float, Gradients]:
    loss = completion_loss(model, layout.lay_out(examples))
    loss.backward()
    fitted = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(weight.dtype == torch.float32 for weight in fitted.values())
    return loss.item(), {name: weight.grad for name, weight in fitted.items()}


def distance(found: Gradients, exact: Gradients) -> float:
    """Length of the difference of two gradients, over that of the second."""
    assert found.keys() == exact.keys()
    apart = sum(float((found[name] - each).pow(2).sum()) for name, each in exact.items())
    return (apart / sum(float(each.pow(2).sum()) for each in exact.values())) ** 0.5


@packs
@pytest.mark.parametrize("packed", [True, False])
def test_loss_and_gradients_are_as_near_to_exact_ones_as_without(
    packed: bool, examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact is fp32. In packed texts and in padded rows, which take the fused attention."""
    found = {}
    for dtype, short in (
        (torch.float32, False),
        (torch.bfloat16, False),
        (torch.bfloat16, True),
    ):
        model = adapted(dtype, short, monkeypatch)
        layout = Packed(dtype) if packed else Padded(2)
        found[dtype, short] = loss_and_gradients(model, layout, examples)
    loss, gradients = found[torch.float32, False]
    for short in (False, True):
        near, others = found[torch.bfloat16, short]
        assert near == pytest.approx(loss, rel=0.01)
        assert distance(others, gradients) < 0.05
    assert distance(found[torch.bfloat16, True][1], found[torch.bfloat16, False][1]) > 0


@packs
def test_weights_are_kept_packed_only_and_the_adapter_is_peft_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, short = (adapted(torch.bfloat16, each, monkeypatch) for each in (False, True))
    layers = [each for each in short.modules() if isinstance(each, shortcuts.LoraLinear)]
    assert layers
    assert all(isinstance(each.forward, shortcuts.AdaptedProduct) for each in layers)
    assert not any(each.get_base_layer().weight.numel() for each in layers)
    names = [{n for n, w in each.named_parameters() if w.requires_grad} for each in (plain, short)]
    assert names[0] == names[1]


def test_another_dtype_stays_as_it_is(examples, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, short = (adapted(torch.float32, each, monkeypatch) for each in (False, True))
    expected, found = (
        loss_and_gradients(each, Packed(torch.float32), examples) for each in (plain, short)
    )
    assert found[0] == expected[0]
    assert distance(found[1], expected[1]) == 0


class Heads(nn.Module):
    """What the fused attention asks of its module."""

    num_key_value_groups = 3
    is_causal = True


@pytest.mark.parametrize("tokens", [5, shortcuts._LONGEST + 1])
@pytest.mark.parametrize("rows", [1, 2])
def test_attention_and_its_gradients_are_those_of_the_fused_one(
    rows: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    query = torch.randn(rows, 6, tokens, 8)
    key, value = torch.randn(2, rows, 2, tokens, 8)
    mask = torch.zeros(rows, 1, tokens, tokens).masked_fill(
        ~torch.ones(tokens, tokens, dtype=torch.bool).tril(), torch.finfo(torch.float32).min
    )
    if rows == 1 and tokens <= shortcuts._LONGEST:  # not by calling it
        monkeypatch.setattr(shortcuts, "sdpa_attention_forward", None)
    found = []
    for attend in (attention, sdpa_attention_forward):
        given = [copy.deepcopy(each).requires_grad_() for each in (query, key, value)]
        out, _ = attend(Heads(), *given, mask, scaling=0.3)
        (out * torch.arange(8)).sum().backward()
        found.append([out.detach(), *(each.grad for each in given)])
    for ours, fused in zip(*found, strict=True):
        torch.testing.assert_close(ours, fused, atol=1e-4, rtol=1e-4)

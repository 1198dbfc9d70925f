"""The hf engine against the naive reference: fp32 scores of every row and step to 1e-4."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from steer.config import Guidance, Sampling
from steer.engines.hf import attention as hf_attention
from steer.engines.hf import compiled
from steer.engines.hf import lanes as hf_lanes
from steer.engines.hf.engine import HFEngine
from steer.engines.hf.library import Library, join, pack
from steer.engines.hf.products import (
    Compiled4Product,
    Compiled8Product,
    HalfProduct,
    Int4Product,
    Int8Product,
    Product,
    QuickInt8Product,
    WordsProduct,
)
from steer.engines.interface import Request
from steer.engines.live import Order
from steer.errors import SteerError
from steer.guidance import steer_streams
from steer.models import machine
from steer.models.base import pick_dtype, resolve_model
from steer.models.fingerprints import ADAPTER_WEIGHTS
from steer.models.packaged import EMBEDDED, default_model
from tests.engines.contract import (
    BODIES,
    PANELS,
    PROMPTS,
    EngineContract,
    assert_exact,
    body_of,
    many,
    reference,
    save_adapter,
    save_padded_model,
)
from tests.tiny import make_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def adapter(tiny_model, tmp_path_factory) -> Path:
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session", params=BODIES)
def engine(tiny_model, adapter, request) -> HFEngine:
    with body_of(request.param):
        return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")


@pytest.fixture(params=["compiled", "pytorch"])
def products(request, monkeypatch) -> Iterator[dict[str, type[Product]]]:
    """Kinds of products where there are compiled ones, and where there are none: for few rows in
    fp32, in int8, and for what was stored in four bits."""
    compiled._kernels.cache_clear()
    if request.param == "pytorch":
        monkeypatch.setenv(compiled.COMPILER, "")
    kernels, here = compiled.kernels_for(torch.empty(0)), machine.processor()
    if kernels and kernels.multiply:
        yield {"fp16": WordsProduct, "int8": Compiled8Product, "int4": Compiled4Product}
    else:
        yield {
            "fp16": HalfProduct if here.halves else Product,
            "int8": QuickInt8Product,
            "int4": Int4Product,
        }
    compiled._kernels.cache_clear()


@pytest.fixture(scope="session")
def slow(tiny_model, adapter):
    return reference(str(tiny_model), adapter)


class TestContract(EngineContract):
    def vary(self, patch, data):
        """Either way of attending, and of keeping a context: in each lane's cache, or apart."""
        patch.setattr(hf_attention, "FUSED_ROWS", data.draw(st.sampled_from([0, 48])))
        patch.setattr(hf_attention, "BLOCKED", data.draw(st.sampled_from([set(), {torch.float32}])))
        patch.setattr(hf_attention, "BLOCK", data.draw(st.sampled_from([1, 7, 128])))
        patch.setattr(hf_lanes, "SHORT", data.draw(st.sampled_from([0, 8, 32, 400])))


def test_without_an_adapter_the_expert_is_the_base(tiny_model):
    plain = HFEngine(str(tiny_model), dtype="float32", device="cpu", rows=2)
    requests = many(3, gamma=0.5, eta=0.3)
    assert_exact(plain, reference(str(tiny_model), None), requests, Sampling(max_new_tokens=5))


def test_ids_without_a_token_are_never_drawn(tmp_path):
    base = save_padded_model(tmp_path / "padded")
    padded = HFEngine(base, dtype="float32", device="cpu")
    assert_exact(padded, reference(base, None), many(3), Sampling(max_new_tokens=6))


def test_an_architecture_that_is_not_read_here(tmp_path):
    """Its attention and its logits are scaled, by Transformers' code."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "granite")
    config = GraniteConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
        max_position_embeddings=512, initializer_range=0.2, attention_bias=True, mlp_bias=True,
        attention_multiplier=0.2, logits_scaling=0.5, residual_multiplier=0.8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GraniteForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(weight, 0.3)
    model.save_pretrained(tmp_path / "granite")
    base = str(tmp_path / "granite")
    adapter = save_adapter(base, tmp_path / "adapter")
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=2)
    assert isinstance(engine.model, Library)
    assert_exact(engine, reference(base, adapter), many(3), Sampling(max_new_tokens=5))


def test_logits_of_minus_infinity(engine, slow):
    def ban(module, inputs, output):
        output[..., 5::7] = -torch.inf
        return output

    hooks = [
        engine.model.head.register_forward_hook(ban),
        slow.get_output_embeddings().register_forward_hook(ban),
    ]
    try:
        assert_exact(engine, slow, many(4), Sampling(max_new_tokens=4))
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_logits_that_are_no_numbers_are_an_error(engine, alpha):
    hook = engine.model.head.register_forward_hook(
        lambda module, inputs, output: output.fill_(torch.nan)
    )
    try:
        with pytest.raises(SteerError, match="rule out every token"):
            engine.generate(many(2, alpha=alpha), Sampling(max_new_tokens=2))
    finally:
        hook.remove()


def test_a_context_longer_than_the_cache_grows_by(engine, slow):
    """Own tokens outgrow the cache's first size while other rows are mid-way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "rows", 2)
        patch.setattr(engine, "ends", torch.tensor([-1]))
        assert_exact(engine, slow, many(3, gamma=0.1, eta=0.1), Sampling(max_new_tokens=40))


@pytest.mark.parametrize("merged", [True, False])
def test_weights_with_the_adapter_added_in_are_exact_too(engine, slow, monkeypatch, merged):
    """Where no stream reads the base model, and back again where one does."""
    monkeypatch.setattr(engine, "may_merge", merged)
    for gamma in (0.0, 0.5):
        streams = steer_streams(Guidance(gamma=gamma, eta=0.3), PROMPTS[0], PANELS[0])
        assert_exact(engine, slow, [Request(0, streams, 3)], Sampling(max_new_tokens=4))
        assert engine.model.switch.merged == (merged and not gamma)


@pytest.fixture(scope="module")
def stored(tiny_model, tmp_path_factory) -> tuple[str, Path]:
    """The tiny model as one that was stored in bf16, and an adapter for it."""
    folder = tmp_path_factory.mktemp("stored") / "base"
    shutil.copytree(tiny_model, folder)
    weights = {name: w.bfloat16().float() for name, w in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return str(folder), save_adapter(str(folder), folder.parent / "adapter")


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_weights_that_few_rows_read_in_fp16_are_exact_too(stored, products, count, gamma):
    """Up to 16 lanes of a pass, 48 where they are compiled; more read fp32, in one run with fewer
    where rows are left over."""
    base, adapter = stored
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=26)
    requests = many(count, gamma=gamma, eta=0.3)
    assert_exact(engine, reference(base, adapter), requests, Sampling(max_new_tokens=4))
    kept = [joint.both for joint in engine.model.joints] + [engine.model.head.product]
    assert {type(each) for each in kept} == {products["fp16"]}
    copies = [getattr(each, "half", getattr(each, "blocks", None)) for each in kept]
    assert all(copy is not None for copy in copies) or products["fp16"] is Product


def test_a_copy_in_fp16_fits_the_memory(stored, products, monkeypatch):
    """It has two bytes a weight, and at most a twentieth of the memory."""
    weights = reference(stored[0], None).num_parameters()
    for times, kind in ((41, products["fp16"]), (39, Product)):
        memory = times * weights
        monkeypatch.setattr(machine, "total_memory", lambda device, memory=memory: memory)
        engine = HFEngine(*stored, dtype="float32", device="cpu")
        assert {type(joint.both) for joint in engine.model.joints} == {kind}


def test_layers_that_read_the_same_tensor_are_one_product(engine):
    layers, heads, dim = engine.model.kv_shape
    reads = (engine.model.rep + 2) * heads * dim
    outs = sorted(len(joint.both.weight) for joint in engine.model.joints)
    assert outs == sorted([reads, 32, 2 * 64, 32] * layers)


def test_rows_fit_the_memory(tiny_model, monkeypatch):
    engine, sampling = HFEngine(str(tiny_model), dtype="float32", device="cpu"), Sampling()
    assert engine.rows_for(3, sampling) == 128
    token = 2 * 4 * math.prod(engine.model.kv_shape)
    room = 4 * 3 * (hf_lanes.SHORT + sampling.max_new_tokens) * token
    monkeypatch.setattr("steer.engines.hf.engine.total_memory", lambda device: 10 * room)
    assert engine.rows_for(3, sampling) == 10
    monkeypatch.setattr("steer.engines.hf.engine.total_memory", lambda device: 1)
    assert engine.rows_for(3, sampling) == 1
    engine.rows = 5
    assert engine.rows_for(3, sampling) == 5


def test_an_adapter_of_another_base_is_an_error(adapter, tmp_path):
    config = LlamaConfig(
        vocab_size=384, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with pytest.raises(SteerError, match="does not fit"):
        join(LlamaForCausalLM(config), [adapter])


def test_an_adapter_that_lacks_weights_is_an_error(tiny_model, adapter, tmp_path):
    """PEFT alone goes on with random ones."""
    folder = tmp_path / "adapter"
    shutil.copytree(adapter, folder)
    weights = load_file(folder / ADAPTER_WEIGHTS)
    del weights[min(weights)]
    save_file(weights, folder / ADAPTER_WEIGHTS)
    with pytest.raises(SteerError, match=r"lacks 1 of its weights, such as .*lora_A"):
        HFEngine(str(tiny_model), folder, dtype="float32", device="cpu")


@pytest.mark.skipif(default_model() != EMBEDDED, reason="the embedded model is not installed")
def test_the_embedded_model(tmp_path):
    base = resolve_model(EMBEDDED)
    adapter = save_adapter(base, tmp_path / "adapter", spread=0.01)
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=2)
    assert_exact(engine, reference(base, adapter), many(2), Sampling(max_new_tokens=3))


@pytest.mark.parametrize("processor", ["this", "plain"])
def test_layers_are_the_same_layers_packed_or_not(processor, request):
    """What bf16 on a CPU reads; the exactness above is in fp32, which is never packed."""
    if processor == "plain":
        request.getfixturevalue("plain_processor")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(96, 64), torch.nn.Linear(64, 33, bias=False))
    model = model.to(torch.bfloat16).requires_grad_(False)
    inputs = torch.linspace(-1, 1, 3 * 5 * 96).view(3, 5, 96).to(torch.bfloat16)
    expected = model(inputs)
    pack(model)
    packed = torch.bfloat16 in machine.processor().packed
    assert any(isinstance(layer, torch.nn.Linear) for layer in model) is not packed
    torch.testing.assert_close(model(inputs), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("narrow", ["bfloat16", "int8"])
@pytest.mark.parametrize("lanes", [0, 2, 3])
def test_layers_with_an_adapter_are_the_same_layers(tiny_model, adapter, lanes, narrow):
    """In a narrow dtype as in fp32, with the adapter on for some lanes, and added in."""
    inputs = torch.linspace(-1, 1, 3 * 32).view(3, 32)
    found = []
    for dtype in ("float32", narrow):
        engine = HFEngine(str(tiny_model), adapter, dtype=dtype, device="cpu")
        engine.lane_model.merge(True)
        engine.model.switch.merged = False
        engine.model.switch.on = lanes
        x = inputs.to(engine.model.dtype)
        reading = [joint for joint in engine.model.joints if joint.down.dense.shape[1] == 32]
        found.append(torch.cat([joint(x) for joint in reading], dim=-1).float())
        engine.model.switch.merged = True
        merged = torch.cat([joint(x) for joint in reading], dim=-1).float()
        if lanes == 3:
            torch.testing.assert_close(merged, found[-1], atol=0.05, rtol=0.05)
    torch.testing.assert_close(*found, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("count", [1, machine.FEW_ROWS])
def test_weights_of_int8(tiny_model, adapter, engine, products, count):
    """A text is about as likely as in fp32, alone and beside more than are read at once."""
    rounded = HFEngine(str(tiny_model), adapter, dtype="int8", device="cpu")
    assert rounded.arithmetic.dtype == "int8"
    assert rounded.model.dtype == pick_dtype("auto", torch.device("cpu"))
    kept = [rounded.model.head.product, *(joint.both for joint in rounded.model.joints)]
    assert {type(each) for each in kept} == {products["int8"]}
    if products["int8"] is QuickInt8Product:
        held = [t for each in kept for t in vars(each).values() if isinstance(t, torch.Tensor)]
        assert all(t.dtype == torch.int8 or t.dim() < 2 for t in held)
    text = (*range(10, 40), int(engine.ends[0]))
    means = []
    for used in (engine, rounded):
        live = used.live(64)
        live.add(
            Order(replace(request, id=number), Sampling(max_new_tokens=1), text)
            for number, request in enumerate(many(count, gamma=0.1, eta=0.1))
        )
        ended = []
        while live.busy:
            ended += [wrote.means for wrote in live.step() if wrote.means]
        means.append([sum(each[name] for each in ended) / count for name in ended[0]])
    assert len(ended) == count
    torch.testing.assert_close(*map(torch.tensor, means), atol=0.2, rtol=0)


@pytest.fixture(scope="module")
def four_bits(tiny_model, tmp_path_factory) -> tuple[str, Path]:
    """The tiny model as one whose layers were stored in four bits, and an adapter for it."""
    folder = tmp_path_factory.mktemp("four_bits") / "base"
    shutil.copytree(tiny_model, folder)
    weights = {
        name: machine.to_int4(w)[2].contiguous() if "proj" in name else w
        for name, w in load_file(folder / WEIGHTS).items()
    }
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    return str(folder), save_adapter(str(folder), folder.parent / "adapter", spread=0.05)


@pytest.mark.skipif(not machine.processor().quarters, reason="no products of int4 here")
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_weights_stored_in_four_bits_are_read_so(four_bits, products, body, gamma):
    """Few rows and many find a text about as likely as fp32 does; the adapter is never added in."""
    with body_of(body):
        exact, rounded = (
            HFEngine(*four_bits, dtype=dtype, device="cpu", rows=40)
            for dtype in ("float32", "int8")
        )
    kinds = {type(joint.both) for joint in rounded.model.joints}
    assert kinds == {products["int4"]}
    assert type(rounded.model.head.product) is products["int8"]
    rounded.lane_model.merge(True)
    assert not any(joint.merged for joint in rounded.model.joints)
    text = (*range(10, 40), int(exact.ends[0]))
    means = []
    for used, count in ((exact, 1), (rounded, 1), (rounded, 20)):
        live = used.live(64)
        live.add(
            Order(replace(request, id=number), Sampling(max_new_tokens=1), text)
            for number, request in enumerate(many(count, gamma=gamma, eta=0.1))
        )
        ended = []
        while live.busy:
            ended += [wrote.means for wrote in live.step() if wrote.means]
        assert len(ended) == count
        means.append(torch.tensor([ended[0][name] for name in sorted(ended[0])]))
    torch.testing.assert_close(means[1], means[0], atol=0.1, rtol=0)
    torch.testing.assert_close(means[2], means[1], atol=0.05, rtol=0)


@pytest.mark.parametrize("room", [True, False])
def test_rounded_weights_are_kept_twice_where_there_is_memory(
    tiny_model, products, monkeypatch, room
):
    """More rows then read them in the usual dtype; the values are the same."""
    weights = reference(str(tiny_model), None).num_parameters()
    memory = 20 * 4 * weights + (0 if room else -20)
    monkeypatch.setattr(machine, "total_memory", lambda device: memory)
    monkeypatch.setattr(machine, "processor", lambda: machine.Processor(*[frozenset()] * 3))
    engine = HFEngine(str(tiny_model), dtype="int8", device="cpu")
    product = engine.model.head.product
    assert type(product) is (products["int8"] if room else Int8Product)
    most = getattr(product, "few", machine.FEW_ROWS)
    x = torch.linspace(-1, 1, 2 * most * 32).view(-1, 32)
    few, many_rows = product(x[:most]), product(x)
    torch.testing.assert_close(many_rows, x @ product.dense.float().T, atol=1e-4, rtol=1e-4)
    assert not torch.equal(few, many_rows[:most])
    torch.testing.assert_close(few, many_rows[:most], atol=0.02, rtol=0.02)

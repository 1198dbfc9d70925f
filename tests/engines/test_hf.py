"""The hf engine against the naive reference: fp32 scores of every row and step to 1e-4."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from steer.config import Guidance, Sampling
from steer.engines import hf_lanes
from steer.engines.hf import HFEngine
from steer.engines.hf_adapter import Joint, join, pack
from steer.engines.hf_batch import Batch
from steer.engines.interface import Request, Step
from steer.errors import SteerError
from steer.guidance import Contexts, Stream, build_streams, steer_streams
from steer.models import EMBEDDED, default_model, load_model, resolve_model
from steer.seeds import derive
from tests import naive
from tests.tiny import make_tokenizer

PROMPTS = ("Q:", "Write one question about the sky.\nQuestion:")
PANELS = (
    "Why does a comet shine after sunset?",
    " ".join(f"How often does the moon move {end}?" for end in ("now", "when cold", "x" * 40)),
    "a",
)


def save_adapter(base: str, folder: Path, spread: float = 0.15) -> Path:
    """A LoRA adapter with random, large weights: on and off must differ."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = get_peft_model(load_model(base, dtype="float32", device="cpu"), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    peft.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def adapter(tiny_model, tmp_path_factory) -> Path:
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


def reference(base: str, adapter: Path | None):
    model = load_model(base, dtype="float32", device="cpu").eval()
    return PeftModel.from_pretrained(model, str(adapter)).eval() if adapter else model


@pytest.fixture(scope="session")
def engine(tiny_model, adapter) -> HFEngine:
    return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def slow(tiny_model, adapter):
    return reference(str(tiny_model), adapter)


@contextmanager
def recorded() -> Iterator[tuple[dict, dict]]:
    """Scores by (request id, step) and drawn tokens by request id, of all engines."""
    scores: dict[tuple[int, int], torch.Tensor] = {}
    tokens: dict[int, list[int]] = {}
    original_score, original_step = Batch.score, Batch.step

    def score(batch, rows, logits):
        result = original_score(batch, rows, logits)
        some, _, places = result
        whole = torch.full(logits.shape[1:], -torch.inf)
        whole = some if places is None else whole.scatter(1, places, some)
        for row, request in enumerate(batch.requests[rows]):
            scores[request.id, int(batch.counts[rows][row])] = whole[row].clone()
        return result

    def step(batch):
        done = original_step(batch)
        for request, token in zip(batch.requests, batch.last().tolist(), strict=True):
            tokens.setdefault(request.id, []).append(token)
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "score", score)
        patch.setattr(Batch, "step", step)
        yield scores, tokens


def assert_exact(engine: HFEngine, slow, requests: list[Request], sampling: Sampling) -> None:
    with recorded() as (scores, tokens):
        completions = engine.generate(requests, sampling)
    assert [c.id for c in completions] == [r.id for r in requests]
    for request, completion in zip(requests, completions, strict=True):
        drawn = tokens[request.id]
        assert len(drawn) == completion.tokens
        for step in range(len(drawn)):
            expected = naive.scores(slow, engine.tokenizer, request, drawn[:step])
            torch.testing.assert_close(
                scores[request.id, step], expected, atol=1e-4, rtol=1e-5, check_dtype=False
            )
        for stream in {stream.name: stream for stream in request.streams}.values():
            mean = sum(
                naive.stream_log_probs(
                    slow, engine.tokenizer, stream.adapter, stream.context, drawn[:step]
                )[token].item()
                for step, token in enumerate(drawn)
            ) / len(drawn)
            assert completion.log_probs[stream.name] == pytest.approx(mean, abs=1e-4)


guidances = st.builds(
    Guidance,
    gamma=st.sampled_from([0.0, 0.2, 1.0]),
    eta=st.sampled_from([0.0, 0.3, 1.0]),
    rho=st.sampled_from([0.0, 0.3]),
    alpha=st.sampled_from([0.0, 0.05, 0.5]),
    weights=st.sampled_from(["balanced", "published"]),
    contrast=st.sampled_from(["base", "prompt", "labels"]),
    adaptive=st.booleans(),
)
panels = st.sampled_from(PANELS)
contexts = st.builds(
    Contexts,
    prompt=st.sampled_from(PROMPTS),
    negative=st.lists(panels, min_size=1, max_size=2).map(tuple),
    positive=panels,
    others=st.just(("A riddle:",)),
)


@st.composite
def batches(draw) -> tuple[list[Request], Sampling, int, list[int], int]:
    """Requests with ragged prompts and panels and mixed guidance, rows, end tokens so many that
    rows finish at different steps and are replaced, and either way of attending."""
    requests = [
        Request(
            id=number,
            streams=build_streams(guidance := draw(guidances), draw(contexts)),
            seed=derive(draw(st.integers(0, 5)), number),
            alpha=guidance.alpha,
            adaptive=guidance.adaptive,
        )
        for number in range(draw(st.integers(1, 7)))
    ]
    sampling = Sampling(
        temperature=draw(st.sampled_from([0.0, 0.7, 1.0])),
        top_k=draw(st.sampled_from([0, 10])),
        max_new_tokens=draw(st.integers(1, 9)),
    )
    ends = draw(st.sampled_from([[1], list(range(60)), list(range(200))]))
    return requests, sampling, draw(st.integers(1, 4)), ends, draw(st.sampled_from([0, 16]))


@given(batches())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_scores_equal_the_naive_reference(engine, slow, batch):
    requests, sampling, rows, ends, fused = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "rows", rows)
        patch.setattr(engine, "ends", torch.tensor(ends))
        patch.setattr(hf_lanes, "FUSED_LANES", fused)
        assert_exact(engine, slow, requests, sampling)


def many(count: int, **guidance) -> list[Request]:
    settings = Guidance(**guidance)
    return [
        Request(i, steer_streams(settings, PROMPTS[1], PANELS[i % 2]), derive(0, i), settings.alpha)
        for i in range(count)
    ]


def test_without_an_adapter_the_expert_is_the_base(tiny_model):
    plain = HFEngine(str(tiny_model), dtype="float32", device="cpu", rows=2)
    requests = many(3, gamma=0.5, eta=0.3)
    assert_exact(plain, reference(str(tiny_model), None), requests, Sampling(max_new_tokens=5))


def test_another_architecture_with_biases(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "qwen")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
        max_position_embeddings=512, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(weight, 0.3)
    model.save_pretrained(tmp_path / "qwen")
    base = str(tmp_path / "qwen")
    adapter = save_adapter(base, tmp_path / "adapter")
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=2)
    assert_exact(engine, reference(base, adapter), many(3), Sampling(max_new_tokens=5))


def test_logits_of_minus_infinity(engine, slow):
    def ban(module, inputs, output):
        output[..., 5::7] = -torch.inf
        return output

    hooks = [
        engine.model.get_output_embeddings().register_forward_hook(ban),
        slow.get_output_embeddings().register_forward_hook(ban),
    ]
    try:
        assert_exact(engine, slow, many(4), Sampling(max_new_tokens=4))
    finally:
        for hook in hooks:
            hook.remove()


def test_a_context_longer_than_the_cache_grows_by(engine, slow):
    """Own tokens outgrow the cache's first size while other rows are mid-way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "rows", 2)
        patch.setattr(engine, "ends", torch.tensor([-1]))
        assert_exact(engine, slow, many(3, gamma=0.1, eta=0.1), Sampling(max_new_tokens=40))


def test_any_list_of_streams(engine, slow):
    """Positive panels, and two negatives, are only more streams."""
    streams = (
        Stream("expert", 0.9, True, PROMPTS[0]),
        Stream("positive", 0.4, True, PANELS[1]),
        Stream("negative", -0.2, True, PANELS[0]),
        Stream("base negative", -0.1, False, PANELS[0]),
    )
    requests = [Request(0, streams, 1), Request(1, streams[:2], 2), Request(2, streams[:1], 3)]
    assert_exact(engine, slow, requests, Sampling(max_new_tokens=6))


def test_records_do_not_depend_on_the_rows(engine):
    sampling = Sampling(max_new_tokens=12)
    texts = []
    for rows in (1, 3, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "rows", rows)
            texts.append([c.text for c in engine.generate(many(7), sampling)])
    assert texts[0] == texts[1] == texts[2]
    assert len(set(texts[0])) > 1


def test_plain_sampling_of_the_expert_is_transformers_generate(engine, slow):
    requests = many(1, gamma=0, eta=0, alpha=0)
    ours = engine.generate(requests, Sampling(temperature=0, max_new_tokens=10))[0].text
    ids = torch.tensor([engine.tokenizer(PROMPTS[1]).input_ids])
    theirs = slow.generate(input_ids=ids, do_sample=False, max_new_tokens=10)[0, ids.shape[1] :]
    assert ours == engine.tokenizer.decode(theirs, skip_special_tokens=True)


def test_progress_and_an_interrupt_leave_the_engine_usable(engine):
    steps: list[Step] = []

    def stop(step: Step) -> None:
        steps.append(step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.generate(many(4), Sampling(max_new_tokens=8), stop)
    assert steps[0].tokens == 4
    assert len(engine.generate(many(4), Sampling(max_new_tokens=3))) == 4


@pytest.mark.parametrize("merged", [True, False])
def test_weights_with_the_adapter_added_in_are_exact_too(engine, slow, monkeypatch, merged):
    """Where no stream reads the base model, and back again where one does."""
    monkeypatch.setattr(engine, "may_merge", merged)
    for gamma in (0.0, 0.5):
        streams = steer_streams(Guidance(gamma=gamma, eta=0.3), PROMPTS[0], PANELS[0])
        assert_exact(engine, slow, [Request(0, streams, 3)], Sampling(max_new_tokens=4))
        assert engine.switch.merged == (merged and not gamma)


def test_layers_that_read_the_same_tensor_are_one_product(engine):
    layers = engine.model.config.num_hidden_layers
    joints = [layer for layer in engine.model.modules() if isinstance(layer, Joint)]
    assert sorted(joint.members for joint in joints) == sorted([3, 1, 2, 1] * layers)


def test_rows_fit_the_memory(tiny_model, monkeypatch):
    engine, sampling = HFEngine(str(tiny_model), dtype="float32", device="cpu"), Sampling()
    assert engine.rows_for(3, sampling) == 128
    token = 2 * 4 * math.prod(engine.kv_shape)
    room = 4 * 3 * sampling.max_new_tokens * token
    monkeypatch.setattr("steer.engines.hf.total_memory", lambda device: 10 * room)
    assert engine.rows_for(3, sampling) == 10
    monkeypatch.setattr("steer.engines.hf.total_memory", lambda device: 1)
    assert engine.rows_for(3, sampling) == 1
    engine.rows = 5
    assert engine.rows_for(3, sampling) == 5


def test_a_context_too_long_for_the_model_is_an_error(engine):
    streams = (Stream("expert", 1.0, True, "why " * 2000),)
    with pytest.raises(SteerError, match="but the model reads 512"):
        engine.generate([Request(0, streams, 0)], Sampling(max_new_tokens=5))


def test_an_adapter_of_another_base_is_an_error(adapter, tmp_path):
    config = LlamaConfig(
        vocab_size=384, hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with pytest.raises(SteerError, match="does not fit"):
        join(LlamaForCausalLM(config), adapter)


@pytest.mark.skipif(default_model() != EMBEDDED, reason="the embedded model is not installed")
def test_the_embedded_model(tmp_path):
    base = resolve_model(EMBEDDED)
    adapter = save_adapter(base, tmp_path / "adapter", spread=0.01)
    engine = HFEngine(base, adapter, dtype="float32", device="cpu", rows=2)
    assert_exact(engine, reference(base, adapter), many(2), Sampling(max_new_tokens=3))


def test_packed_layers_are_the_same_layers():
    """What bf16 on a CPU reads; the exactness above is in fp32, which is never packed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(96, 64), torch.nn.Linear(64, 33, bias=False))
    model = model.to(torch.bfloat16).requires_grad_(False)
    inputs = torch.linspace(-1, 1, 3 * 5 * 96).view(3, 5, 96).to(torch.bfloat16)
    expected = model(inputs)
    pack(model)
    assert not any(isinstance(layer, torch.nn.Linear) for layer in model)
    torch.testing.assert_close(model(inputs), expected, atol=0.02, rtol=0.02)

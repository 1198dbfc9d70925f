"""The vllm engine on vLLM's CPU build; `make test-vllm` runs these in an environment of its own."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from steer.cli.main import main
from steer.config import Sampling
from steer.engines.choice import EngineSpec
from steer.engines.interface import Request, Step
from steer.engines.vllm.room import Room, SequencePlan
from steer.errors import SteerError
from steer.guidance import Stream
from steer.runs.store import Run
from tests.engines.contract import (
    PANELS,
    PROMPTS,
    EngineContract,
    assert_exact,
    assert_same,
    many,
    reference,
    save_padded_model,
)
from tests.engines.vllm.disturbed import preempt_the_last_sequence, resume
from tests.tiny import fit_tiny_expert

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make test-vllm", allow_module_level=True)

LONG = " ".join(PANELS[:2] * 3)  # a context of several cache blocks


pytestmark = pytest.mark.usefixtures("small_caches")


class TestContract(EngineContract):
    within = 1e-3


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, max_new_tokens=30),
        Sampling(max_new_tokens=30),
        Sampling(temperature=0, opening=3, max_new_tokens=30),
        Sampling(temperature=0.7, top_k=20, top_p=0.9, max_new_tokens=30),
    ],
    ids=["greedy", "drawn", "opening", "cut"],
)
def test_completions_are_those_of_the_hf_engine(engine, hf, sampling):
    requests = many(12, gamma=0.4, eta=0.3, alpha=0.01)
    ours, theirs = engine.generate(requests, sampling), hf.generate(requests, sampling)
    assert_same(ours, theirs)


def long_requests(count: int) -> list[Request]:
    """Requests whose panels are shared, and long enough for vLLM to keep."""
    panels = (LONG, f"a {LONG}")
    return [
        Request(
            number,
            (
                Stream("expert", 1.0, True, PROMPTS[1]),
                Stream("negative", -0.3, True, panels[number % 2]),
                Stream("positive", 0.3, True, f"b {LONG}"),
            ),
            seed=number,
        )
        for number in range(count)
    ]


def test_shared_panels_are_read_once_and_exact(engine, slow):
    scheduled: list[int] = []
    requests = long_requests(6)
    with watched_steps(engine, scheduled):
        assert_exact(engine, slow, requests, Sampling(max_new_tokens=4), within=1e-3)
    lengths = {s.context: len(engine.encode(s.context)) for r in requests for s in r.streams}
    distinct = sum(lengths.values())
    everything = sum(lengths[s.context] for r in requests for s in r.streams)
    assert distinct < everything / 2
    assert scheduled[0] < (distinct + everything) / 2


def test_a_group_that_is_preempted_is_begun_again(engine, slow, caplog):
    before = engine.restarts

    def split(step: Step) -> None:
        if step.tokens == 4 * 3:  # after the third step, for one step
            preempt_the_last_sequence(engine)
        else:
            resume(engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "rows", 4)
        requests, sampling = many(6, gamma=0.4, eta=0.3, alpha=0), Sampling(max_new_tokens=9)
        expected = engine.generate(requests, sampling)
        found = engine.generate(requests, sampling, split)
    assert engine.restarts == before + 1
    assert "fell out of step" in caplog.text
    assert_same(found, expected)


@pytest.mark.parametrize("new_tokens", [1, 5])
def test_a_group_whose_prefills_are_apart_is_begun_again(engine, slow, new_tokens):
    """Even a record of one token, which is over before its mates have read their contexts."""
    requests, sampling = long_requests(3), Sampling(max_new_tokens=new_tokens)
    scheduler = engine.llm.engine_core.engine_core.scheduler
    before, expected = engine.restarts, engine.generate(requests, sampling)
    engine.llm.reset_prefix_cache()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "max_num_scheduled_tokens", 40)
        found = engine.generate(requests, sampling, restore_after(3, patch))
    assert engine.restarts > before
    assert_same(found, expected)


@dataclass(frozen=True)
class Part:
    """What vLLM gives of a finished sequence, with what the processor wrote for its last token."""

    token_ids: list[int]
    wrote: float

    @property
    def logprobs(self) -> list[dict[int, SimpleNamespace]]:
        return [{self.token_ids[-1]: SimpleNamespace(logprob=self.wrote)}]


@pytest.mark.parametrize(
    ("parts", "together"),
    [
        ({0: Part([3, 4], -1.0), 1: Part([3, 4], -2.0)}, True),
        ({0: Part([3, 4], -1.0)}, False),
        ({0: Part([3, 4], -1.0), 1: Part([3, 5], -2.0)}, False),
        ({0: Part([3, 4], 1.0), 1: Part([3, 4], 1.0)}, False),
    ],
    ids=["in step", "one is missing", "another token", "marked out of step"],
)
def test_each_sign_of_a_group_taken_apart_counts_alone(parts, together):
    """Forced splits show several at once."""
    from steer.engines.live import Order
    from steer.engines.vllm.groups import Group

    plans = (SequencePlan(1, "a", 1, 1), SequencePlan(0, "a", 1, 1))
    group = Group(Order(many(1)[0], Sampling()), plans)
    assert group.together(parts) is together


def test_a_group_that_cannot_stay_together_is_an_error(engine, monkeypatch):
    scheduler = engine.llm.engine_core.engine_core.scheduler
    engine.llm.reset_prefix_cache()
    monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", 2)
    with pytest.raises(SteerError, match=r"apart 5 times.*--rows"):
        engine.generate(long_requests(1), Sampling(max_new_tokens=4))
    monkeypatch.undo()
    assert len(engine.generate(long_requests(2), Sampling(max_new_tokens=4))) == 2


def test_a_small_cache_splits_nothing(engine, hf, monkeypatch):
    """Groups wait for each other's blocks; vLLM preempts none, and nothing changes."""
    pool = engine.llm.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
    engine.llm.reset_prefix_cache()
    kept = pool.get_new_blocks(pool.get_num_free_blocks() - 40)
    free = pool.get_num_free_blocks()
    monkeypatch.setattr(engine, "capacity", replace(engine.capacity, blocks=free))
    running: list[int] = []
    before = engine.restarts
    try:
        requests, sampling = long_requests(12), Sampling(max_new_tokens=40)
        found = engine.generate(requests, sampling, lambda step: running.append(step.tokens))
    finally:
        pool.free_blocks(kept)
    assert engine.restarts == before
    assert running[0] < 12
    assert [c.text for c in found] == [c.text for c in hf.generate(requests, sampling)]


def test_too_generous_a_room_is_noticed(engine, hf, monkeypatch):
    """The room's sums are what keeps groups whole: without them vLLM preempts, and all is well
    only because that is found out."""
    pool = engine.llm.engine_core.engine_core.scheduler.kv_cache_manager.block_pool
    engine.llm.reset_prefix_cache()
    kept = pool.get_new_blocks(pool.get_num_free_blocks() - 40)
    monkeypatch.setattr(Room, "_within", lambda room: room.sequences <= 15)
    before = engine.restarts
    try:
        requests, sampling = long_requests(6), Sampling(max_new_tokens=70)
        found = engine.generate(requests, sampling)
    finally:
        pool.free_blocks(kept)
    assert engine.restarts > before
    assert [c.text for c in found] == [c.text for c in hf.generate(requests, sampling)]


def test_a_record_too_large_is_an_error(engine, monkeypatch):
    monkeypatch.setattr(engine, "capacity", replace(engine.capacity, blocks=3))
    with pytest.raises(SteerError, match=r"does not fit into vLLM's .* 3 cache blocks"):
        engine.generate(long_requests(1), Sampling(max_new_tokens=40))


def test_the_adapter_is_added_by_our_products(engine):
    """Which are exact, as all tests here with one process use them."""
    layer = runner(engine).model.model.layers[0].self_attn.qkv_proj
    assert type(layer.punica_wrapper).__name__ == "Products"


def test_infinite_logits_are_an_error_and_not_a_dead_engine(engine):
    """Streams that rule out every token together."""

    def ban(module, inputs, output):
        output[:] = float("nan")
        return output

    hook = runner(engine).model.logits_processor.register_forward_hook(ban)
    try:
        with pytest.raises(SteerError, match="rule out every token"):
            engine.generate(many(2), Sampling(max_new_tokens=3))
    finally:
        hook.remove()
    assert len(engine.generate(many(2), Sampling(max_new_tokens=3))) == 2


@pytest.mark.parametrize(
    ("settings", "kind"), [({"beams": 2}, "beam"), ({"penalty": 0.5}, "contrastive")]
)
def test_a_search_is_refused(engine, settings, kind):
    with pytest.raises(SteerError, match=f"no {kind} search; use --engine hf"):
        engine.generate(many(1), Sampling(**settings))


def test_without_an_adapter_the_expert_is_the_base(model):
    plain = EngineSpec(str(model), None, "vllm", dtype="float32", rows=2).load()
    requests = many(3, gamma=0.5, eta=0.3)
    sampling = Sampling(max_new_tokens=5)
    assert_exact(plain, reference(str(model), None), requests, sampling, within=1e-3)


def test_ids_without_a_token_are_never_drawn(tmp_path):
    base = save_padded_model(tmp_path / "padded")
    padded = EngineSpec(base, None, "vllm", dtype="float32", rows=2).load()
    sampling = Sampling(max_new_tokens=6)
    assert_exact(padded, reference(base, None), many(3), sampling, within=1e-3)


def test_an_adapter_that_vllm_cannot_load_is_one_line(model, tmp_path):
    with pytest.raises(SteerError, match="vLLM cannot load"):
        EngineSpec(str(model), broken(tmp_path), "vllm", dtype="float32", rows=1).load()


def test_the_command_line_makes_the_records_of_the_hf_engine(model, tiny_corpus, tmp_path):
    expert = fit_tiny_expert(tmp_path / "expert", model, tiny_corpus)
    real = tmp_path / "real.txt"
    real.write_text("\n".join(tiny_corpus.texts))
    command = (
        f"generate {expert} --real {real} --n 6 --candidates 1 --max-attempts 12 --dtype float32"
    )
    attempts = {}
    for engine in ("vllm", "hf"):
        out = tmp_path / engine
        assert main([*command.split(), "--engine", engine, "--out", str(out)]) in (0, 3)
        run = Run.open(out)
        attempts[engine] = {(each.id, each.text) for each in (*run.records, *run.rejects)}
    assert attempts["vllm"] == attempts["hf"]
    assert len({text for _, text in attempts["vllm"]}) > 6


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two CPUs")
def test_under_tensor_parallelism_both_ranks_write_the_same(model, adapter, hf, monkeypatch):
    """Each in a process of its own, with half of the model. If their tokens differed, what they
    read next would, and so would the log-probabilities."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{first}|{second}")
    two = EngineSpec(str(model), adapter, "vllm", rows=4, dtype="float32", gpus=2).load()
    requests, sampling = many(3, gamma=0.4, eta=0.3), Sampling(max_new_tokens=8)
    assert_same(two.generate(requests, sampling), hf.generate(requests, sampling))


def broken(folder: Path) -> Path:
    config = '{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "peft_type": "LORA"}'
    (folder / "adapter_config.json").write_text(config)
    (folder / "adapter_model.safetensors").write_bytes(b"nonsense")
    return folder


def runner(engine):
    return engine.llm.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def restore_after(steps: int, patch: pytest.MonkeyPatch) -> Callable[[Step], None]:
    """Undoes `patch` after some steps."""
    seen: list[Step] = []

    def on_step(step: Step) -> None:
        seen.append(step)
        if len(seen) == steps:
            patch.undo()

    return on_step


class watched_steps:
    """Appends how many tokens each scheduler step reads."""

    def __init__(self, engine, found: list[int]) -> None:
        self.scheduler = engine.llm.engine_core.engine_core.scheduler
        self.found, self.patch = found, pytest.MonkeyPatch()

    def __enter__(self) -> None:
        schedule = self.scheduler.schedule

        def watched(*arguments, **named):
            output = schedule(*arguments, **named)
            self.found.append(output.total_num_scheduled_tokens)
            return output

        self.patch.setattr(self.scheduler, "schedule", watched)

    def __exit__(self, *_) -> None:
        self.patch.undo()

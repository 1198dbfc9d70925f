"""What `steer generate` does with a run that is there: how it computes, when it loads nothing."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steer.config import RunConfig, Sampling
from steer.engines.choice import EngineSpec
from steer.engines.interface import Arithmetic
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.models.machine import cpus
from steer.runs.generation import generate
from steer.runs.launch import as_begun, launch
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import rounds

REAL = stub.corpus()
CONFIG = RunConfig(n=8, max_attempts=8)
SPEC = EngineSpec("nothing")


def begun(out: Path, how: Arithmetic) -> Path:
    """A run made with such arithmetic."""
    engine = stub.StubEngine(REAL)
    engine.arithmetic = how
    generate(CONFIG, REAL, stub.StubExpert(), engine, out)
    return out


def test_a_run_is_continued_with_its_own_threads_and_dtype(tmp_path: Path) -> None:
    out = begun(tmp_path / "run", Arithmetic("float32", 1))
    assert Run.open(out).sources.threads == 1
    assert as_begun(SPEC, out) == replace(SPEC, threads=1, dtype="float32")


def test_weights_of_int8_are_kept_where_they_can_be_read(tmp_path: Path) -> None:
    out = begun(tmp_path / "run", Arithmetic("int8", 1))
    spec = replace(SPEC, device="cpu")
    assert as_begun(spec, out) == replace(spec, threads=1, dtype="int8")
    with pytest.raises(SteerError, match="only --engine hf reads such weights"):
        replace(spec, dtype="int8", name="vllm")


def test_what_is_named_wins(tmp_path: Path) -> None:
    out = begun(tmp_path / "run", Arithmetic("float32", 1))
    named = EngineSpec("nothing", threads=2, dtype="float16")
    assert as_begun(named, out) == named


def test_what_this_machine_has_not_is_left_open(tmp_path: Path, plain_processor: None) -> None:
    out = begun(tmp_path / "run", Arithmetic("bfloat16", cpus() + 1))
    spec = replace(SPEC, device="cpu")
    assert as_begun(spec, out) == spec


def test_a_new_run_and_one_made_before_this_was_kept(tmp_path: Path) -> None:
    assert as_begun(SPEC, tmp_path / "new") == SPEC
    out = begun(tmp_path / "run", Arithmetic("float32", 1))
    identity = json.loads((out / "run.json").read_text())
    for name in ("dtype", "threads", "expert"):
        del identity["sources"][name]
    (out / "run.json").write_text(json.dumps(identity))
    assert as_begun(SPEC, out) == SPEC


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Arithmetic("bfloat16", 2), ["dtype float32 there and bfloat16 now"]),
        (Arithmetic("float32", 3), ["threads 2 there and 3 now"]),
        (Arithmetic("float32", 2, True), ["compiled False there and True now"]),
        (Arithmetic("float32", 2), []),
    ],
)
def test_other_arithmetic_than_the_run_began_with_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, now: Arithmetic, said: list[str]
) -> None:
    out = begun(tmp_path / "run", Arithmetic("float32", 2))
    engine = stub.StubEngine(REAL)
    engine.arithmetic = now
    with caplog.at_level(logging.WARNING):
        generate(CONFIG, REAL, stub.StubExpert(), engine, out)
    assert len(caplog.messages) == len(said)
    for message, part in zip(caplog.messages, said, strict=True):
        assert part in message
    assert Run.open(out).sources.threads == 2  # the run stays what it was begun as


def test_a_continued_run_equals_one_that_was_never_stopped_whatever_the_threads_now(
    tiny_expert: Path, tiny_corpus, tmp_path: Path
) -> None:
    """Begun with one thread; continued where more are the default."""
    expert = Expert.load(tiny_expert)
    config = RunConfig(n=12, round_size=8, min_chars=0, max_attempts=24)
    spec = EngineSpec(expert.base, expert.path)

    def stop(progress) -> None:
        if progress.attempts:
            raise KeyboardInterrupt

    def make(name: str, threads: int | None, on_progress=None) -> Run:
        torch.set_num_threads(cpus())
        how = replace(spec, threads=threads)
        return launch(config, tiny_corpus, expert, how, tmp_path / name, on_progress)

    try:
        make("whole", 1)
        with pytest.raises(KeyboardInterrupt):
            make("stopped", 1, stop)
        assert Run.open(tmp_path / "stopped").rounds == 1
        make("stopped", None)
    finally:
        torch.set_num_threads(cpus())
    assert rounds(tmp_path / "stopped") == rounds(tmp_path / "whole")


def test_records_are_as_long_as_the_experts_where_nothing_is_said(
    tiny_expert: Path, tiny_corpus, tmp_path: Path
) -> None:
    """In Python as by the command; and a run goes on with the length that it was begun with."""
    expert = Expert.load(tiny_expert)
    engine = EngineSpec(expert.base, expert.path).load()
    config = RunConfig(n=1, min_chars=0, max_attempts=1)
    run = generate(config, tiny_corpus, expert, engine, tmp_path / "run")
    most = expert.max_completion_tokens
    assert run.config.sampling.max_new_tokens == most != Sampling().max_new_tokens
    shorter = config.up_to(most - 1)
    generate(shorter, tiny_corpus, expert, engine, tmp_path / "shorter")
    again = generate(config, tiny_corpus, expert, engine, tmp_path / "shorter")
    assert again.config.sampling.max_new_tokens == most - 1


def test_a_list_of_strings_will_do(tmp_path: Path) -> None:
    expert, engine = stub.StubExpert(), stub.StubEngine(REAL)
    whole = generate(CONFIG, REAL, expert, engine, tmp_path / "corpus")
    listed = generate(CONFIG, list(REAL.texts), expert, engine, tmp_path / "list")
    assert listed.texts == whole.texts
    with pytest.raises(SteerError, match="string"):
        generate(CONFIG, "one text", expert, engine, tmp_path / "one")


def test_a_finished_run_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub.StubEngine, "name", "hf")
    out = begun(tmp_path / "run", Arithmetic("float32", 1))
    spec = EngineSpec("a base model that is not there")
    assert launch(CONFIG, REAL, stub.StubExpert(), spec, out).records == Run.open(out).records
    with pytest.raises(SteerError, match="a base model that is not there"):
        launch(CONFIG, REAL, stub.StubExpert(), spec, tmp_path / "new")


def test_no_threads_is_a_mistake() -> None:
    with pytest.raises(SteerError, match="--threads is 0"):
        EngineSpec("base", threads=0)

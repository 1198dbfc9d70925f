"""A tiny model in vLLM, and the same in the hf engine: anew for each module, as another engine in
this process ends what an earlier one shares with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steer.engines.choice import EngineSpec
from steer.engines.hf.engine import HFEngine
from tests.engines.contract import reference, save_adapter
from tests.tiny import save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """vLLM's attention on a CPU has no heads as small as those of the other tests' model."""
    return save_tiny_model(tmp_path_factory.mktemp("vllm") / "tiny", head_dim=32)


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory) -> Path:
    return save_adapter(str(model), tmp_path_factory.mktemp("vllm-adapter"))


@pytest.fixture(scope="module")
def small_caches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer.engines.vllm.engine.CPU_CACHE", 64 << 20)
        yield


@pytest.fixture(scope="module")
def engine(model, adapter, small_caches):
    return EngineSpec(str(model), adapter, "vllm", dtype="float32", rows=8).load()


@pytest.fixture(scope="module")
def slow(model, adapter):
    return reference(str(model), adapter)


@pytest.fixture(scope="module")
def hf(model, adapter) -> HFEngine:
    return HFEngine(str(model), adapter, dtype="float32", device="cpu")

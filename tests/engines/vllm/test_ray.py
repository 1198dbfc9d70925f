"""The vllm engine in the workers of a Ray cluster; part of `make test-vllm`."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from steer.config import RunConfig, Sampling
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import Engine
from steer.models.expert import Expert
from steer.runs.cluster import Cluster, generate_on_ray
from steer.runs.generation import RunProgress, generate
from tests.tiny import fit_tiny_expert, save_tiny_model

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make test-vllm", allow_module_level=True)

CONFIG = RunConfig(
    n=24,
    round_size=6,
    rows_per_panel=3,
    lag=4,
    max_attempts=36,
    sampling=Sampling(max_new_tokens=30),
)


@dataclass(frozen=True)
class SmallSpec(EngineSpec):
    """With a cache that two engines of a test have room for."""

    def load(self) -> Engine:
        import steer.engines.vllm.engine

        steer.engines.vllm.engine.CPU_CACHE = 64 << 20
        return super().load()


@pytest.fixture(scope="module")
def expert(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Expert:
    folder = tmp_path_factory.mktemp("vllm-ray")
    model = save_tiny_model(folder / "tiny", head_dim=32)
    return Expert.load(fit_tiny_expert(folder / "expert", model, tiny_corpus))


@pytest.fixture(autouse=True)
def ray_settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Workers find this file, and what it imports, as pytest does.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        patch.setenv("RAY_worker_niceness", "0")
        yield


def spec(expert: Expert, **settings: int) -> SmallSpec:
    return SmallSpec(expert.base, expert.path, "vllm", 4, "float32", **settings)


def workers() -> list[psutil.Process]:
    """The workers that make a round, of the cluster of this process."""
    family = psutil.Process().children(recursive=True)
    return [one for one in family if alive(one) and "ray::Worker.make" in one.cmdline()[0]]


def alive(process: psutil.Process) -> bool:
    """Whether it is there and holds memory, as a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and bool(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def after_the_first_round(act: Callable[[], None]) -> Callable[[RunProgress], None]:
    done = []

    def watch(progress: RunProgress) -> None:
        if progress.accepted + progress.attempts and not done and workers():
            done.append(True)
            act()

    return watch


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "rounds").iterdir()}


def test_a_worker_killed_in_its_round_changes_nothing(tiny_corpus, expert, tmp_path):
    killed: list[int] = []

    def kill() -> None:
        killed.append(workers()[0].pid)
        os.kill(killed[0], signal.SIGKILL)

    out, cluster = tmp_path / "there", Cluster("local", 2)
    watch = after_the_first_round(kill)
    generate_on_ray(CONFIG, tiny_corpus, expert, spec(expert), out, cluster, watch)
    generate(CONFIG, tiny_corpus, expert, spec(expert).load(), tmp_path / "here")
    assert killed
    assert files(out) == files(tmp_path / "here")
    assert len(files(out)) > 2


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two CPUs")
def test_a_worker_s_own_processes_end_with_it(tiny_corpus, expert, tmp_path, monkeypatch):
    """The ranks of tensor parallelism are processes of their own, which hold a GPU's memory;
    one of them is stopped, so that it could not end by itself."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"{first}|{second}")
    ranks: list[psutil.Process] = []

    def kill() -> None:
        worker = workers()[0]
        ranks.extend(worker.children(recursive=True))
        ranks[-1].suspend()
        os.kill(worker.pid, signal.SIGKILL)

    config = CONFIG.model_copy(update={"lag": 1})
    out, cluster = tmp_path / "run", Cluster("local", 1)
    made = generate_on_ray(
        config, tiny_corpus, expert, spec(expert, gpus=2), out, cluster, after_the_first_round(kill)
    )
    assert len(ranks) >= 2
    assert made.rounds > 2
    until = time.monotonic() + 30
    while any(map(alive, ranks)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not list(filter(alive, ranks))

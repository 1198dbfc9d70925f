"""Rounds made by workers of a Ray cluster: several processes, killed while they work."""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steer.cli.main import main
from steer.config import RunConfig, Sampling
from steer.errors import SteerError
from steer.runs import cluster, ray_crew
from steer.runs.cluster import Cluster, generate_on_ray
from steer.runs.generation import RunProgress, generate
from steer.runs.rounds import Round
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import rounds
from tests.stubworker import StubSpec

REAL = stub.corpus()
CONFIG = RunConfig(n=60, round_size=12, rows_per_panel=4, lag=6)
LONG = RunConfig(n=480, round_size=12, rows_per_panel=4, lag=6)
KILLS, DRIVER_KILLS = 22, 4
PATIENCE, SECONDS = 5.0, 1200.0
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["steer.runs.cluster"])


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes on this machine, reached only from it."""
    settings = {
        "PYTHONPATH": str(Path(__file__).parents[2]),  # where the workers find the stub engine
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # else other work on the machine makes the tests slow
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node_settings())
        cluster.add_node(**node_settings())
        yield cluster
        cluster.shutdown()


def node_settings() -> dict[str, Any]:
    return {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}


def on_ray(
    nodes: Any, out: Path, spec: StubSpec, workers: int, config: RunConfig = CONFIG, **more: Any
) -> Run:
    address = Cluster(nodes.address, workers)
    return generate_on_ray(config, REAL, stub.StubExpert(), spec, out, address, **more)


def here(out: Path, config: RunConfig) -> Run:
    return generate(config, REAL, stub.StubExpert(), stub.StubEngine(REAL), out)


def test_any_number_of_workers_makes_the_same_run(tmp_path: Path, nodes: Any) -> None:
    expected = rounds(here(tmp_path / "here", CONFIG).path)
    seen: list[RunProgress] = []
    for workers in (1, 3):
        pids = tmp_path / f"pids-{workers}"
        pids.mkdir()
        # All have started before the first round: how fast they start is not what is tested.
        spec = StubSpec(0.1, pids, workers)
        made = on_ray(nodes, tmp_path / str(workers), spec, workers, on_progress=seen.append)
        assert rounds(made.path) == expected
    assert {progress.workers for progress in seen} >= {1, 3}
    assert 3 <= max(progress.rounds for progress in seen) <= CONFIG.lag


def drive(out: Path, address: str, pids: Path) -> None:
    """What a driver does, in a process that can be killed."""
    spec = StubSpec(0.05, pids)
    generate_on_ray(LONG, REAL, stub.StubExpert(), spec, out, Cluster(address, 3))


def test_killed_workers_drivers_and_a_node(tmp_path: Path, nodes: Any) -> None:
    """Something is killed each time a round was committed, or nothing was for long."""
    out, pids = tmp_path / "run", tmp_path / "pids"
    pids.mkdir()
    rng, kills, drivers, before = random.Random(0), 0, 0, 0
    until, last = time.monotonic() + SECONDS, 0.0
    driver = start(out, nodes.address, pids)
    while driver.is_alive():
        assert time.monotonic() < until, f"{kills} kills, {before} rounds"
        time.sleep(rng.uniform(0.02, 0.3))
        done = len(list((out / "rounds").glob("*.jsonl")))
        if kills >= KILLS or (done <= before and time.monotonic() < last + PATIENCE):
            continue
        before, last = done, time.monotonic()
        if kills in (4, 9, 14, 19):
            driver.kill()
            driver.join()
            kills, drivers = kills + 1, drivers + 1
            assert Run.open(out).rounds >= done
            driver = start(out, nodes.address, pids)
        elif kills == 11:
            nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
            nodes.add_node(**node_settings())
            kills += 1
        else:
            kills += kill_one(pids, rng)
    assert driver.exitcode == 0
    assert (kills, drivers) == (KILLS, DRIVER_KILLS)
    assert rounds(out) == rounds(here(tmp_path / "here", LONG).path)
    assert not list(out.rglob("*.tmp"))


def start(out: Path, address: str, pids: Path) -> Any:
    driver = CHILDREN.Process(target=drive, args=(out, address, pids), daemon=True)
    driver.start()
    return driver


def kill_one(pids: Path, rng: random.Random) -> bool:
    """Ends a worker that has begun to load, at least, with SIGKILL; False when none is left."""
    alive = workers(pids)
    if not alive:
        return False
    os.kill(rng.choice(alive), signal.SIGKILL)
    return True


def workers(pids: Path) -> list[int]:
    """Those that are there of all that began to load."""
    return [int(file.name) for file in sorted(pids.iterdir()) if is_worker(int(file.name))]


def is_worker(pid: int) -> bool:
    try:
        return b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_hung_worker_is_noticed(
    tmp_path: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped by SIGSTOP, a worker is there and does nothing. A driver that does not notice would
    wait forever, so the test ends it."""

    def give_up(*_: Any) -> None:
        os.kill(stopped[0], signal.SIGKILL)
        pytest.fail("the driver waits for a worker that hangs")

    monkeypatch.setattr(ray_crew, "LEAST_SECONDS", 2.0)
    pids, stopped = tmp_path / "pids", []
    pids.mkdir()

    def stop_one(progress: RunProgress) -> None:
        if not stopped and progress.accepted:
            stopped.append(workers(pids)[0])
            os.kill(stopped[0], signal.SIGSTOP)

    out, before = tmp_path / "run", signal.signal(signal.SIGALRM, give_up)
    signal.alarm(120)
    try:
        made = on_ray(nodes, out, StubSpec(0.02, pids, 2), 2, LONG, on_progress=stop_one)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert rounds(made.path) == rounds(here(tmp_path / "here", LONG).path)
    assert "a worker hangs" in caplog.text
    assert not is_worker(stopped[0])


def test_a_worker_that_was_lost_while_it_was_idle(tmp_path: Path, nodes: Any) -> None:
    """Ray has started it again, and there is nothing in it."""
    spec = StubSpec(0.0, tmp_path)
    crew = ray_crew.RayCrew(nodes_ray(nodes), spec, 1, Sampling(), stub.StubExpert())
    try:
        crew.first()
        (idle,) = workers(tmp_path)
        os.kill(idle, signal.SIGKILL)
        until = time.monotonic() + 60
        while is_worker(idle) or not any_worker():
            assert time.monotonic() < until
            time.sleep(0.1)
        crew.take(None, Round(0, {}, 0, None))  # type: ignore[arg-type]
        while not (made := crew.wait(lambda step: None)):
            assert time.monotonic() < until
        assert [completions for _, _, completions in made] == [[]]
    finally:
        sys.modules["ray"].shutdown()


def nodes_ray(nodes: Any) -> Any:
    ray = pytest.importorskip("ray")
    ray.init(address=nodes.address, log_to_driver=False)
    return ray


def any_worker() -> bool:
    """Whether a worker of ours is there on this machine."""
    return any(
        b"ray::Worker" in file.read_bytes()
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if is_worker(int(file.parent.name))
    )


def test_a_worker_that_cannot_load_its_model(tmp_path: Path, nodes: Any) -> None:
    with pytest.raises(SteerError, match=r"a worker on \S+ cannot load its model: no such model"):
        on_ray(nodes, tmp_path / "run", StubSpec(broken="no such model"), 2)
    assert not (tmp_path / "run").exists()


def test_workers_that_end_while_they_load(
    tmp_path: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_crew, "MOST_LOSSES", 1)
    with pytest.raises(SteerError, match="lost 2 times while loading its model"):
        on_ray(nodes, tmp_path / "run", StubSpec(broken="exit"), 1)


def test_a_worker_with_another_expert(tmp_path: Path, nodes: Any) -> None:
    with pytest.raises(SteerError, match=r"the expert on .* is another one"):
        on_ray(nodes, tmp_path / "run", StubSpec(adapter="other"), 1)


def test_more_workers_than_rounds_at_a_time(tmp_path: Path) -> None:
    cluster = Cluster("local", 7)
    with pytest.raises(SteerError, match="lag is 6, so at most 6 of the 7 workers"):
        generate_on_ray(CONFIG, REAL, stub.StubExpert(), StubSpec(), tmp_path / "run", cluster)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers needs --ray"),
        (["--ray", "local", "--workers", "2"], "lag is 1, so at most 1 of the 2 workers"),
        (["--ray", "local", "--workers", "0"], "Invalid value for '--workers'"),
        (["--lag", "0"], "lag is 0"),
    ],
)
def test_options_that_cannot_be(
    tiny_expert: Path,
    tiny_texts: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["generate", str(tiny_expert), "--real", str(tiny_texts), "--n", "12"]
    assert main([*command, "--out", str(tmp_path / "run"), *options]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_ray_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SteerError, match=r"pip install 'steer-text\[ray\]'"):
        generate_on_ray(
            CONFIG, REAL, stub.StubExpert(), StubSpec(), tmp_path / "run", Cluster("local", 1)
        )


def test_no_cluster_there(tmp_path: Path) -> None:
    with pytest.raises(SteerError, match="no Ray cluster at 'nowhere'"):
        generate_on_ray(
            CONFIG, REAL, stub.StubExpert(), StubSpec(), tmp_path / "run", Cluster("nowhere", 1)
        )


def test_the_command_makes_the_run_of_one_process(
    tiny_expert: Path, tiny_texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hf engine, two workers on this machine, against the same lag without Ray: with the same
    threads, as sums in fp32 and their last bits depend on these."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    command = ["generate", str(tiny_expert), "--real", str(tiny_texts), "--n", "12"]
    command += ["--min-chars", "0", "--round-size", "8", "--lag", "2", "--max-attempts", "48"]
    command += ["--threads", "1"]
    threads = torch.get_num_threads()
    codes = [
        main([*command, "--out", str(tmp_path / "there"), "--ray", "local", "--workers", "2"]),
        main([*command, "--out", str(tmp_path / "here")]),
    ]
    torch.set_num_threads(threads)
    assert codes[0] == codes[1]
    assert rounds(tmp_path / "there") == rounds(tmp_path / "here")
    assert Run.open(tmp_path / "there").rounds > 2
    for name in ("there", "here"):
        assert Run.open(tmp_path / name).sources.threads == 1

    # What is finished is shown, and nothing is loaded for it.
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(cluster, "_connected", load)
    monkeypatch.setattr("steer.engines.choice.EngineSpec.load", load)
    again = [*command, "--out", str(tmp_path / "there")]
    assert main([*again, "--ray", "local", "--workers", "2"]) == main(again) == codes[0]


@pytest.fixture
def tiny_texts(tiny_corpus: Any, tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(tiny_corpus.texts), "utf-8")
    return path

"""Rounds on many machines: Ray places the workers, starts them again and tells when one is lost.

A worker is a Ray actor with one engine; it makes whole rounds. The driver, this process, plans,
checks and commits them. A round whose worker is lost goes to the next free one.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.engines.worker import Spec
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.runs.generation import RunProgress, run_rounds
from steer.runs.ray_crew import RayCrew
from steer.runs.store import Run

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STORE_BYTES = 100_000_000  # a round is well below a megabyte

MISSING = "Ray is not installed; run: pip install 'steer-text[ray]'"


@dataclass(frozen=True)
class Cluster:
    """Address and number of the workers: `address` is "local" (this machine, for as long as the run
    takes), "auto" (the cluster that this machine belongs to) or a head node's HOST:PORT."""

    address: str
    workers: int


def generate_on_ray(
    config: RunConfig,
    real: Corpus,
    expert: Expert,
    spec: Spec,
    out: Path | str,
    cluster: Cluster,
    on_progress: Callable[[RunProgress], None] | None = None,
    *,
    towards: Corpus | None = None,
    forbid: Corpus | None = None,
) -> Run:
    """Generates a run as `steer.runs.generation.generate` does, its rounds made by workers of a Ray
    cluster.

    The records are those of `generate` with the same settings, whatever the number of workers and
    however many are lost. In low precision they may differ between machines. Raises `SteerError`
    also when Ray is missing or cannot be reached, and when there are more workers than rounds at a
    time. A worker that cannot load its model, or has another one, is a `SteerError` too.
    """
    if cluster.workers > config.lag:
        raise SteerError(
            f"lag is {config.lag}, so at most {config.lag} of the {cluster.workers} workers would "
            f"work at a time; give --lag {2 * cluster.workers}, or fewer workers"
        )
    with _connected(cluster) as ray:
        crew = RayCrew(ray, spec, cluster.workers, config.sampling, expert)
        engine = crew.first()
        (run,) = run_rounds(
            {out: config}, real, expert, engine, crew, on_progress, towards=towards, forbid=forbid
        )
    return run


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Yields the module `ray`, connected until the block ends; a local cluster ends with it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A worker's own processes, as an engine on several GPUs has, must not outlive it with their
    # memory. This is for a local cluster; others read it where they are started.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
    # Else Ray's own news of each lost worker, several lines, goes to standard output.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    try:
        import ray
    except ImportError:
        raise SteerError(MISSING) from None
    local = {
        "num_cpus": max(cluster.workers, joblib.cpu_count()),
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    more = local if cluster.address == "local" else {}
    try:
        _connect(ray, cluster.address, more)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, more: dict[str, Any]) -> None:
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _ASKING}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise SteerError(
            f"no Ray cluster at {address!r} ({error}); start one with ray start --head, "
            "or use --ray local"
        ) from error
    finally:
        _handle_again(before)


def _handle_again(before: Mapping[int, Any]) -> None:
    """Gives signals back to their handlers: Ray's own end the process with a C++ stack."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None:  # none that Python knows of
                signal.signal(number, handler)

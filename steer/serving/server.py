"""A server from its experts' folders to its end: `steer serve`."""

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn

from steer.config import Sampling
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import Request
from steer.engines.live import LiveEngine, Order
from steer.errors import SteerError
from steer.guidance import Stream
from steer.models.expert import Expert
from steer.serving.app import make_app
from steer.serving.experts import Served
from steer.serving.settings import ServeSettings


def load(
    experts: Sequence[Expert],
    real: Corpus,
    settings: ServeSettings,
    spec: Callable[[Expert], EngineSpec],
) -> list[Served]:
    """Loads `experts`, which `spec` says how to; those of one base model share an engine, and so
    its batches. Raises `SteerError` where one cannot be loaded or two have the same name."""
    names = [name_of(each) for each in experts]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SteerError(f"two experts are called {twice!r}; rename the folder of one")
    groups: dict[str, list[Expert]] = {}
    for each in experts:
        groups.setdefault(each.base_fingerprint, []).append(each)
    if len(groups) > 1 and spec(experts[0]).name == "vllm":
        raise SteerError(
            f"the experts have {len(groups)} base models, and --engine vllm serves those of one; "
            "start a server for each, or leave --engine out"
        )
    served = [one for group in groups.values() for one in _load(group, real, spec, settings)]
    return sorted(served, key=lambda one: names.index(one.name))


def serve(
    served: Sequence[Served], settings: ServeSettings, on_ready: Callable[[str], None]
) -> None:
    """Serves until it is told to stop; `on_ready` is told the address. Raises `SteerError` where
    it cannot listen, or may not."""
    settings.require_key()
    with contextlib.closing(listen(settings.host, settings.port)) as listening:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        on_ready(f"http://{host}:{listening.getsockname()[1]}")
        make_server(served, settings).run(sockets=[listening])


def make_server(served: Sequence[Served], settings: ServeSettings) -> uvicorn.Server:
    """Makes the server, which listens on no port by itself."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        make_app(served, settings),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.grace,
        lifespan="on",
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Opens a socket that listens. Raises `SteerError` where that is not possible."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise SteerError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another --port"
        ) from None


def name_of(expert: Expert) -> str:
    """Name that a client calls the expert by: that of its folder."""
    return Path(expert.path).resolve().name


def _load(
    experts: Sequence[Expert],
    real: Corpus,
    spec: Callable[[Expert], EngineSpec],
    settings: ServeSettings,
) -> list[Served]:
    """Loads experts of one base model."""
    how = replace(spec(experts[0]), beside=tuple(Path(each.path) for each in experts[1:]))
    engine = how.load()
    _warm(engine)
    batch = name_of(experts[0])
    served = [
        Served(name_of(each), each, engine, real, settings.longest, batch, number)
        for number, each in enumerate(experts, 1)
    ]
    for one in served:
        one.require()
    return served


def _warm(engine: LiveEngine) -> None:
    """Lets the engine write: for what it compiles at its first tokens, no client should wait."""
    live, streams = engine.live(2), (Stream("expert", 1.0, True, "A"),)
    live.add([Order(Request(0, streams, seed=0), Sampling(max_new_tokens=2))])
    while live.busy:
        live.step()

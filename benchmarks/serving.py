"""How fast a server writes: `python -m benchmarks.serving EXPERT --real DATA`.

For each number of clients, the same texts are written twice, one right after the other: asked of
a real server on this machine, each client sending one request after another, and by one call of
the engine. Prints tokens a second of both, their ratio, and the time to the first token. Some
clients may break off after it (--break-off), and then the server must be left with no row.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from rich.console import Console

from benchmarks.command import run
from benchmarks.machine import machine
from steer.data.corpus import load_corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import complete
from steer.models.expert import Expert
from steer.serving.bodies import CompletionBody
from steer.serving.experts import Served
from steer.serving.ordering import order
from steer.serving.server import listen, load, make_server
from steer.serving.settings import ServeSettings

_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds in all, tokens, and seconds to each first token."""

    seconds: float
    tokens: int
    first: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("expert", type=Path, help="what steer fit made")
    parser.add_argument("--real", required=True, help="the real texts")
    parser.add_argument("--clients", default="1,8,64", help="how many at once (1,8,64)")
    parser.add_argument("--texts", type=int, default=64, help="texts for each number (64)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a text at most (32)")
    parser.add_argument("--break-off", type=float, default=0.0, help="share of clients that do (0)")
    options = parser.parse_args(arguments)
    return run(lambda: _measure(options), Console(stderr=True))


def _measure(options: argparse.Namespace) -> None:
    settings = ServeSettings(queue=100_000, timeout=3600)
    expert, real = Expert.load(options.expert), load_corpus(options.real)
    (served,) = load([expert], real, settings, lambda each: EngineSpec(each.base, each.path))
    print(f"{options.texts} texts of at most {options.tokens} tokens; {machine('cpu')}")
    with _serving(served, settings) as address:
        asyncio.run(_ask(address, _bodies(served, 8, options.tokens), 8, 0))  # reads the panels
        for clients in map(int, options.clients.split(",")):
            bodies = _bodies(served, max(options.texts, clients), options.tokens)
            asked = asyncio.run(_ask(address, bodies, clients, options.break_off))
            _show(clients, asked, _alone(served, bodies))


def _show(clients: int, asked: Load, alone: float) -> None:
    p50, p99 = np.percentile(asked.first, (50, 99))
    memory = psutil.Process().memory_info().rss / 2**20
    print(
        f"{clients} clients: {asked.rate:.1f} tokens/s, the engine alone {alone:.1f}, ratio "
        f"{asked.rate / alone:.2f}; first token {p50:.2f} s (p50), {p99:.2f} s (p99); "
        f"{memory:.0f} MiB",
        flush=True,
    )


def _bodies(served: Served, count: int, tokens: int) -> list[dict[str, object]]:
    basis = {"model": served.name, "max_tokens": tokens}
    return [basis | {"seed": seed} for seed in range(count)]


def _alone(served: Served, bodies: Sequence[dict[str, object]]) -> float:
    """Tokens a second of the engine, for the same texts in one call."""
    ordered = [order(served, CompletionBody.model_validate(body)) for body in bodies]
    requests = [each.orders[0].request for each in ordered]
    began = time.perf_counter()
    made = complete(served.engine, requests, ordered[0].orders[0].sampling)
    return sum(each.tokens for each in made) / (time.perf_counter() - began)


@contextlib.contextmanager
def _serving(served: Served, settings: ServeSettings) -> Iterator[str]:
    with listen(settings.host, 0) as listening:
        server = make_server([served], settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://{settings.host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


async def _ask(
    address: str, bodies: Sequence[dict[str, object]], clients: int, break_off: float
) -> Load:
    """Asks for all texts, so many at once; a share of the clients breaks off. Raises
    `RuntimeError` where a row is left."""
    waiting, draw, first = iter(bodies), random.Random(0), list[float]()
    limits = httpx2.Limits(max_connections=clients)

    async def client(http: httpx2.AsyncClient) -> int:
        written = 0
        for body in waiting:
            began, breaks = time.perf_counter(), draw.random() < break_off
            async with http.stream("POST", f"{address}/v1/completions", json=body | _USAGE) as got:
                events = _events(got.aiter_lines())
                await anext(events)
                first.append(time.perf_counter() - began)
                if not breaks:
                    written += sum([_tokens(event) async for event in events])
        return written

    async with httpx2.AsyncClient(timeout=None, limits=limits, verify=False) as http:
        began = time.perf_counter()
        written = await asyncio.gather(*(client(http) for _ in range(clients)))
        seconds = time.perf_counter() - began
        await _require_empty(http, address)
    return Load(seconds, sum(written), tuple(first))


async def _require_empty(http: httpx2.AsyncClient, address: str) -> None:
    for _ in range(100):
        figures = (await http.get(f"{address}/metrics")).text.splitlines()
        if "steer_rows 0.0" in figures:
            return
        await asyncio.sleep(0.1)
    raise RuntimeError("rows are left that nobody asks for")


def _tokens(event: dict[str, Any]) -> int:
    """Tokens that the last event of a stream counts."""
    return int(event.get("usage", {}).get("completion_tokens", 0))


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


if __name__ == "__main__":
    sys.exit(main())

"""How fast a server writes: `python -m benchmarks.serving EXPERT --real DATA`, or `--tiny`.

For each number of clients, the same texts are written twice, one right after the other: asked of
a real server, each client sending one request after another, and by one call of the engine. The
clients are another process on this machine. Prints tokens a second of both, their ratio, the time
to the first token, and the server's memory after each quarter of the time. Some clients may break
off after it (--break-off). A text that does not come whole ends the measurement, and so does a row
that is left. With --tiny a random model of two layers writes, so that the rest is the server's own
cost. `--out FILE` keeps the figures.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
from rich.console import Console

from benchmarks.command import require_place, run, write_results
from benchmarks.machine import machine, versions
from steer.data.corpus import Corpus, load_corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import complete
from steer.errors import SteerError
from steer.methods import STEERED
from steer.models.expert import Expert
from steer.serving.bodies import CompletionBody
from steer.serving.experts import Served
from steer.serving.ordering import order
from steer.serving.server import listen, load, make_server
from steer.serving.settings import ServeSettings

_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds in all, tokens, texts that came whole and that were broken off, and
    seconds to each first token."""

    seconds: float
    tokens: int
    whole: int
    broken: int
    first: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("expert", type=Path, nargs="?", help="what steer fit made")
    parser.add_argument("--real", help="the real texts")
    parser.add_argument("--tiny", action="store_true", help="a random model of two layers instead")
    parser.add_argument("--clients", default="1,8,64", help="how many at once (1,8,64)")
    parser.add_argument("--texts", type=int, default=64, help="texts for each number (64)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a text at most (32)")
    parser.add_argument("--break-off", type=float, default=0.0, help="share of clients that do (0)")
    parser.add_argument("--engine", default="hf", help="hf or vllm (hf)")
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    options = parser.parse_args(arguments)
    return run(lambda: _run(options), Console(stderr=True))


def _run(options: argparse.Namespace) -> None:
    if options.out:
        require_place(options.out)
    if options.tiny:
        with tempfile.TemporaryDirectory() as folder:
            found = _measure(options, *_tiny(Path(folder)))
    elif options.expert and options.real:
        found = _measure(options, Expert.load(options.expert), load_corpus(options.real))
    else:
        raise SteerError("no expert and real texts are given; name both, or give --tiny")
    if options.out:
        write_results(options.out, json.dumps(found, indent=2) + "\n")


def _tiny(folder: Path) -> tuple[Expert, Corpus]:
    """An expert of a random model of two layers, and its real texts."""
    from tests import tiny  # what the tests use

    corpus = Corpus.of(tiny.TEXTS)
    base = tiny.save_tiny_model(folder / "base")
    return Expert.load(tiny.fit_tiny_expert(folder / "tiny", base, corpus)), corpus


def _measure(options: argparse.Namespace, expert: Expert, real: Corpus) -> dict[str, Any]:
    settings = ServeSettings(queue=100_000, timeout=3600)
    (served,) = load(
        [expert], real, settings, lambda each: EngineSpec(each.base, each.path, options.engine)
    )
    where = machine("cpu")
    print(f"{options.texts} texts of at most {options.tokens} tokens; {where}")
    names = ("engine", "texts", "tokens", "break_off")
    asked = {name: getattr(options, name) for name in names}
    figures = []
    with serving(served, settings) as address, _clients() as others:
        warm = _bodies(served, 8, options.tokens)
        others.submit(_load, address, warm, 8, 0.0).result()  # reads the panels
        for clients in map(int, options.clients.split(",")):
            bodies = _bodies(served, max(options.texts, clients), options.tokens)
            with _Memory() as memory:
                saw = others.submit(_load, address, bodies, clients, options.break_off).result()
            figures.append(_figures(clients, saw, _alone(served, bodies), memory.quarters))
            _show(figures[-1])
    return {"asked": asked, "figures": figures, "machine": where, "versions": versions()}


def _clients() -> ProcessPoolExecutor:
    """A process for the clients, so that they do not wait for the server's threads."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


class _Memory:
    """Memory of this process (MiB) after each quarter of the time that it is looked at."""

    def __init__(self) -> None:
        self._ended, self._seen = threading.Event(), [_resident()]
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def quarters(self) -> list[int]:
        """At the first quarter, the second, the third, and at the end."""
        last = len(self._seen) - 1
        return [self._seen[last * quarter // 4] for quarter in (1, 2, 3, 4)]

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            self._seen.append(_resident())


def _resident() -> int:
    return round(psutil.Process().memory_info().rss / 2**20)


def _figures(clients: int, saw: Load, alone: float, memory: list[int]) -> dict[str, Any]:
    p50, p99 = np.percentile(saw.first, (50, 99))
    return {
        "clients": clients,
        "whole": saw.whole,
        "broken_off": saw.broken,
        "seconds": round(saw.seconds, 1),
        "requests_per_second": round((saw.whole + saw.broken) / saw.seconds, 1),
        "tokens_per_second": round(saw.rate, 1),
        "engine_alone": round(alone, 1),
        "ratio": round(saw.rate / alone, 3),
        "first_token_p50": round(float(p50), 3),
        "first_token_p99": round(float(p99), 3),
        "memory_mib": memory,
    }


def _show(found: dict[str, Any]) -> None:
    print(
        "{clients} clients: {tokens_per_second} tokens/s, the engine alone {engine_alone}, ratio "
        "{ratio}; {requests_per_second} requests/s; first token {first_token_p50} s (p50), "
        "{first_token_p99} s (p99); {whole} whole, {broken_off} broken off; MiB {memory_mib}"
        "".format(**found),
        flush=True,
    )


def _bodies(served: Served, count: int, tokens: int) -> list[dict[str, object]]:
    basis = {"model": served.name, "max_tokens": tokens, "method": STEERED}
    return [basis | {"seed": seed} for seed in range(count)]


def _alone(served: Served, bodies: Sequence[dict[str, object]]) -> float:
    """Tokens a second of the engine, for the same texts in one call, or for 1,000 of them."""
    ordered = [order(served, CompletionBody.model_validate(body)) for body in bodies[:1000]]
    requests = [each.orders[0].request for each in ordered]
    began = time.perf_counter()
    made = complete(served.engine, requests, ordered[0].orders[0].sampling)
    return sum(each.tokens for each in made) / (time.perf_counter() - began)


@contextlib.contextmanager
def serving(served: Served, settings: ServeSettings) -> Iterator[str]:
    """Runs a server; gives its address."""
    with listen(settings.host, 0) as listening:
        server = make_server([served], settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://{settings.host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _load(
    address: str, bodies: Sequence[dict[str, object]], clients: int, break_off: float
) -> Load:
    return asyncio.run(_ask(address, bodies, clients, break_off))


async def _ask(
    address: str, bodies: Sequence[dict[str, object]], clients: int, break_off: float
) -> Load:
    """Asks for all texts, so many at once; a share of the clients breaks off. Raises `SteerError`
    for a text that does not come whole, and where a row is left."""
    waiting, draw, first = iter(bodies), random.Random(0), list[float]()
    limits = httpx2.Limits(max_connections=clients)
    broken = 0

    async def client(http: httpx2.AsyncClient) -> list[int]:
        nonlocal broken
        written = []
        for body in waiting:
            began, breaks = time.perf_counter(), draw.random() < break_off
            async with http.stream("POST", f"{address}/v1/completions", json=body | _USAGE) as got:
                events = _events(got.aiter_lines())
                some = [await anext(events)]
                first.append(time.perf_counter() - began)
                if breaks:
                    broken += 1
                else:
                    some += [event async for event in events]
                    written.append(_tokens(some))
        return written

    async with httpx2.AsyncClient(timeout=None, limits=limits, verify=False) as http:
        began = time.perf_counter()
        several = await asyncio.gather(*(client(http) for _ in range(clients)))
        seconds = time.perf_counter() - began
        await _require_empty(http, address)
    written = [tokens for each in several for tokens in each]
    return Load(seconds, sum(written), len(written), broken, tuple(first))


async def _require_empty(http: httpx2.AsyncClient, address: str) -> None:
    for _ in range(100):
        figures = (await http.get(f"{address}/metrics")).text.splitlines()
        if "steer_rows 0.0" in figures:
            return
        await asyncio.sleep(0.1)
    raise SteerError("rows are left that nobody asks for")


def _tokens(events: Sequence[dict[str, Any]]) -> int:
    """Tokens of a text. Raises `SteerError` where it is not whole."""
    ended = [each for event in events for each in event.get("choices", ()) if each["finish_reason"]]
    if len(ended) != 1 or "usage" not in events[-1]:
        raise SteerError(f"a text did not come whole; its last event is {events[-1]}")
    return int(events[-1]["usage"]["completion_tokens"])


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


if __name__ == "__main__":
    sys.exit(main())

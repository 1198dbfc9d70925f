"""A real server on a port of this machine, with experts on the tiny model."""

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import httpx2
import uvicorn

from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.models.embedder import Embedder
from steer.models.expert import Expert
from steer.serving.experts import Served
from steer.serving.server import listen, load, make_server
from steer.serving.settings import ServeSettings
from tests import tiny

CLIENT = httpx2.Client(timeout=60, verify=False)
"""One for all tests: each has to read certificates when it is made."""


@dataclass(frozen=True)
class Running:
    """A server that runs: its address, its handle, and where it saves runs."""

    address: str
    server: uvicorn.Server
    saved: Path | None

    def post(self, path: str = "/v1/completions", **body: object) -> httpx2.Response:
        return CLIENT.post(f"{self.address}{path}", json=body)

    def send(self, content: str | bytes, path: str = "/v1/completions") -> httpx2.Response:
        kind = {"content-type": "application/json"}
        return CLIENT.post(f"{self.address}{path}", content=content, headers=kind)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return CLIENT.get(f"{self.address}{path}", headers=headers)

    def metric(self, name: str) -> float:
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def settles(self) -> None:
        """Waits until no row runs or waits."""
        until(lambda: self.metric("steer_rows ") == 0)


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@contextmanager
def running(served: list[Served], settings: ServeSettings) -> Iterator[Running]:
    with listen(settings.host, 0) as listening:
        server = make_server(served, settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            yield Running(address, server, settings.save)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()


class _Words:
    """Its tokenizer: a token is a word."""

    def get_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, texts: list[str], **others: object) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}


class WordModel:
    """Stands for a sentence-transformers model: a text is its words, in 32 dimensions."""

    max_seq_length = 64
    tokenizer = _Words()

    def state_dict(self) -> dict[str, object]:
        return {}

    def encode(self, texts: list[str], **others: object) -> np.ndarray:
        rows = np.full((len(texts), 32), 0.1)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[zlib.crc32(word.encode()) % 32] += 1
        return rows


@pytest.fixture(autouse=True, scope="session")
def _embedder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "steer.serving.plane.load_embedder", lambda name: Embedder("stub", WordModel())
        )
        patch.setattr("steer.serving.plane.find_spec", lambda name: None)  # UMAP takes its time
        yield


def spec(expert: Expert) -> EngineSpec:
    return EngineSpec(expert.base, expert.path, dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def served(tiny_expert: Path, tiny_label_expert: Path) -> list[Served]:
    """An expert without labels and one with "how" and "why"."""
    experts = [Expert.load(tiny_expert), Expert.load(tiny_label_expert)]
    corpus = Corpus(texts=tiny.TEXTS, labels=tiny.LABELS, source="tiny")
    return load(experts, corpus, ServeSettings(), spec)


@pytest.fixture(scope="module")
def server(served: list[Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = ServeSettings(save=tmp_path_factory.mktemp("saved"), queue=64, grace=5)
    with running(served, settings) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    """OpenAI's own, on the module's server."""
    openai = pytest.importorskip("openai", reason="the client is a test dependency")
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as made:
        yield made

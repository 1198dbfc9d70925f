"""Fixtures shared by all tests: tiny models, and no network."""

import os
import shutil
import sys
import tempfile

# Before Transformers is imported: nothing a test does may wait for, or depend on, the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What is printed is as wide as without a terminal, also where several processes run the tests.
os.environ.pop("COLUMNS", None)
# Nor may a test read or write the user's own cache of embeddings and likelihoods.
os.environ["STEER_METRICS_CACHE"] = f"{tempfile.mkdtemp(prefix='steer-tests-')}/metrics.sqlite"

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steer.data.corpus import Corpus
from steer.models import machine, packaged
from steer.models.cache import kernels_folder, tokenizers_folder
from tests import tiny

_FOUND = machine.processor()
PLAIN = machine.Processor(frozenset(), frozenset(), frozenset(), _FOUND.halves, _FOUND.quarters)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--plain-processor",
        action="store_true",
        help="every test on a processor that computes in fp32 only, as far as steer asks",
    )


@pytest.fixture
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with nothing for dtypes narrower than fp32: AVX2 without AVX-512, say."""
    monkeypatch.setattr(machine, "processor", lambda: PLAIN)


@pytest.fixture
def fake_umap(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A UMAP that shows the first two coordinates, and of rows that come later the next two; the
    settings of each that is made."""
    made: list[dict[str, Any]] = []

    class FakeUMAP:
        def __init__(self, **settings: Any) -> None:
            made.append(settings)

        def fit(self, rows: np.ndarray) -> "FakeUMAP":
            self.embedding_ = rows[:, :2]
            return self

        def transform(self, rows: np.ndarray) -> np.ndarray:
            return rows[:, 2:4]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUMAP))
    return made


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, in which are the user's converted models, made first where need be."""
    if packaged.default_model() == packaged.EMBEDDED:
        packaged.packaged_model(packaged.EMBEDDED)
    folder = tmp_path_factory.mktemp("cache")
    for model in packaged.converted_models():
        if model not in (tokenizers_folder(), kernels_folder()):
            (folder / model.name).symlink_to(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEER_CACHE", str(folder))
        yield


@pytest.fixture(autouse=True, scope="session")
def _processor(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--plain-processor"):
            patch.setattr(machine, "processor", lambda: PLAIN)
        yield


def pytest_unconfigure() -> None:
    shutil.rmtree(Path(os.environ["STEER_METRICS_CACHE"]).parent)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Llama with its tokenizer."""
    return tiny.save_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    """200 short questions without labels."""
    return Corpus(texts=tiny.TEXTS, labels=None, source="tiny")


@pytest.fixture(scope="session")
def tiny_expert(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_corpus: Corpus
) -> Path:
    """Folder of an expert fitted on `tiny_model` for a few steps."""
    return tiny.fit_tiny_expert(tmp_path_factory.mktemp("expert") / "tiny", tiny_model, tiny_corpus)


@pytest.fixture(scope="session")
def tiny_label_expert(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The same, conditional on the labels "how" and "why"."""
    corpus = Corpus(texts=tiny.TEXTS, labels=tiny.LABELS, source="tiny")
    out = tmp_path_factory.mktemp("expert") / "labels"
    return tiny.fit_tiny_expert(out, tiny_model, corpus, prompt=tiny.LABEL_PROMPT)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.browser import launched  # only where playwright is installed

    with launched() as opened:
        yield opened

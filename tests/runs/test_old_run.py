"""A run that an earlier version made (`old-run`, by this engine) opens, continues, is exported."""

import json
import random
import shutil
from pathlib import Path

import pytest

from steer.config import Guidance, RunConfig, Sampling
from steer.engines.interface import Completion, Request
from steer.runs.exporting import export
from steer.runs.generation import generate
from steer.runs.store import Run
from tests import stub
from tests.runs.test_generation import rounds

OLD = Path(__file__).parent / "old-run"
REAL = stub.corpus(30)
CONFIG = RunConfig(
    n=20,
    round_size=8,
    rows_per_panel=4,
    panel_size=3,
    seed=3,
    guidance=Guidance(alpha=0.001),  # the default then
    sampling=Sampling(max_new_tokens=40),
)


class SeedEngine(stub.StubEngine):
    """Texts that depend on the record's seed alone."""

    def _complete(self, request: Request) -> Completion:
        rng = random.Random(request.seed)
        text, finish = self._text(rng)
        log_probs = {stream.name: -1.0 - rng.random() for stream in request.streams}
        return Completion(request.id, text, 10, finish, log_probs)


def test_it_opens() -> None:
    run = Run.open(OLD)
    assert run.complete
    assert run.config.method is None and run.sources.threads is None


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("config", [CONFIG, CONFIG.model_copy(update={"method": "steer"})])
def test_it_continues_to_the_same_files(tmp_path: Path, kept: int, config: RunConfig) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    for file in sorted((tmp_path / "run" / "rounds").iterdir())[kept:]:
        file.unlink()
    generate(config, REAL, stub.StubExpert(), SeedEngine(REAL), tmp_path / "run")
    assert rounds(tmp_path / "run") == rounds(OLD)


def test_it_continues_with_the_length_it_was_begun_with(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    (max((tmp_path / "run" / "rounds").iterdir())).unlink()
    config = CONFIG.model_copy(update={"sampling": Sampling()})
    generate(config, REAL, stub.StubExpert(), SeedEngine(REAL), tmp_path / "run")
    assert rounds(tmp_path / "run") == rounds(OLD)


def test_it_is_exported(tmp_path: Path) -> None:
    export(OLD, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == Run.open(OLD).texts

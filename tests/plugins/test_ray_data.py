"""A run as a dataset of Ray Data, and the reverse: what docs/pipelines.md shows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.data.reading.settings import Reading
from steer.runs.exporting import export
from steer.runs.generation import generate
from steer.runs.store import Run
from tests.runs.test_columns import Echo, ShapedExpert

ROWS = [{"title": f"Ticket {n}", "stars": n % 5, "text": f"t{n}", "n": n + 5} for n in range(30)]
PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[Any]:
    """Ray, whose workers look for files where the test does."""
    found = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        local = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
        found.init("local", log_to_driver=False, **local)
        yield found
        found.shutdown()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    real = Corpus.of_rows(ROWS, Reading(columns=tuple(ROWS[0])))
    expert = ShapedExpert()
    expert.shape = real.shape
    return generate(RunConfig(n=6, near=1.0), real, expert, Echo(real), tmp_path / "run")


def test_the_documented_dataset_is_the_run_and_real_texts_again(
    ray: Any, run: Run, tmp_path: Path
) -> None:
    export(run.path, tmp_path / "records.parquet")
    export(run.path, tmp_path / "records.jsonl")
    block = PAGE.read_text("utf-8").split("## Ray Data")[1].split("```python\n")[1].split("```")[0]
    found: dict[str, Any] = {}
    exec(block, found)
    rows = [json.loads(text) for text in run.texts]
    named = [{name: row[name] for name in ("title", "stars")} for row in rows]
    assert found["dataset"].take_all() == named
    assert [json.loads(text) for text in found["real"].texts] == [
        row for row in named if row["stars"] > 2
    ]
    lines = ray.data.read_json(str(tmp_path / "records.jsonl")).select_columns(["title", "stars"])
    assert lines.take_all() == named

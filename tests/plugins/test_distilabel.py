"""distilabel's pipelines with our step and our LLM; where distilabel is installed."""

import pytest

pytest.importorskip("distilabel", reason="distilabel is not installed")

from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from steer.plugins.distilabel import SteerGenerator, SteerLLM
from steer.runs.store import Run
from tests.plugins.shaped import shaped
from tests.tiny import PROMPT


@pytest.fixture(scope="module")
def settings(tiny_expert, tmp_path_factory) -> dict[str, str]:
    return shaped(tiny_expert, tmp_path_factory.mktemp("distilabel"))


def test_a_pipeline_of_records(settings):
    with Pipeline(name="records") as pipeline:
        SteerGenerator(name="records", n=5, batch_size=2, supply=settings)
    rows = pipeline.run(use_cache=False)["default"]["train"].to_list()
    records = Run.open(settings["run"]).records
    assert [row["record_id"] for row in rows] == [record.id for record in records]
    assert all(set(row["record"]) == {"why", "of"} and row["log_prob"] < 0 for row in rows)


def test_a_step_goes_on_at_an_offset(settings):
    step = SteerGenerator(name="records", n=5, batch_size=2, supply=settings)
    batches = list(step.process(offset=2))
    ids = [record.id for record in Run.open(settings["run"]).records]
    assert [row["record_id"] for rows, _ in batches for row in rows] == ids[2:]
    assert [last for _, last in batches] == [False, True]


def test_an_expert_is_an_llm_of_a_pipeline(settings):
    llm = SteerLLM(expert=settings["expert"], device="cpu", dtype="float32")
    with Pipeline(name="llm") as pipeline:
        asked = LoadDataFromDicts(data=[{"instruction": PROMPT}] * 2)
        asked >> TextGeneration(llm=llm, num_generations=2, group_generations=True)
    rows = pipeline.run(use_cache=False)["default"]["train"].to_list()
    texts = [text for row in rows for text in row["generation"]]
    assert len(texts) == 4 and len(set(texts)) > 1
    assert all(text.startswith('{"why": "') for text in texts)

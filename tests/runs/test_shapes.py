"""Runs of tasks with a shape: every record has it, and what is asked for differs."""

import json

import pytest

from steer.config import RunConfig, Sampling
from steer.data.characters import find_control
from steer.engines.choice import EngineSpec
from steer.models.expert import Expert
from steer.runs.generation import generate
from steer.shapes import Shape

SHAPE = Shape(
    "schema",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "of": {"enum": ["moon", "comet"]},
                "why": {"type": "string", "minLength": 5, "maxLength": 20},
                "n": {"type": "integer", "minimum": 0, "maximum": 99},
            },
            "required": ["of", "why", "n"],
            "additionalProperties": False,
        }
    ),
)


@pytest.fixture(scope="module")
def expert(tiny_expert) -> Expert:
    plain = Expert.load(tiny_expert)
    return plain.model_copy(update={"shape": SHAPE, "min_chars": 1, "whitespace": "exact"})


def config(**settings) -> RunConfig:
    return RunConfig(n=12, round_size=12, sampling=Sampling(max_new_tokens=80), **settings)


def test_no_attempt_is_lost_to_the_form(expert, tiny_corpus, tmp_path):
    engine = EngineSpec(expert.base, expert.path, dtype="float32", device="cpu").load()
    run = generate(config(), tiny_corpus, expert, engine, tmp_path / "run")
    assert run.complete and run.sources.shape == SHAPE
    lost = [reject for reject in run.rejects if reject.reason == "unparsed"]
    assert all(find_control(reject.text) for reject in lost)  # the form allows DEL
    for record in run.records:
        assert SHAPE.fits(record.text) and list(json.loads(record.text)) == ["of", "why", "n"]
    free = generate(
        config(shaped=False, max_attempts=12), tiny_corpus, expert, engine, tmp_path / "free"
    )
    assert not free.records

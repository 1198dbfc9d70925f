"""Decoding held to a shape on the vllm engine, where each group of linked sequences is one record;
part of `make test-vllm`."""

from importlib.util import find_spec

import pytest

from steer.config import Sampling
from steer.engines.masks import Written
from steer.errors import SteerError
from tests.engines.contract import assert_same
from tests.engines.shaped import (
    DRAWN,
    GUIDANCES,
    SHAPES,
    ShapesContract,
    request,
    short_requests,
)

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make test-vllm", allow_module_level=True)


class TestShapes(ShapesContract):
    within = 1e-3


@pytest.mark.parametrize("sampling", DRAWN.values(), ids=DRAWN)
def test_records_are_those_of_the_hf_engine(engine, hf, sampling):
    """More than decode together, some without a shape. Longer texts would some day meet a token
    that is plausible in one engine and, by rounding, not in the other."""
    requests, sampling = short_requests(), sampling.model_copy(update={"max_new_tokens": 60})
    requests += [
        request(len(requests) + row, GUIDANCES["steer"], shape)
        for row, shape in enumerate([SHAPES["schema"], None] * 3)
    ]
    assert_same(engine.generate(requests, sampling), hf.generate(requests, sampling))


def test_a_record_that_is_begun_again_begins_its_shape_again(engine, monkeypatch):
    requests, sampling = short_requests(), Sampling(max_new_tokens=30)
    scheduler = engine.llm.engine_core.engine_core.scheduler
    before, expected = engine.restarts, engine.generate(requests, sampling)
    engine.llm.reset_prefix_cache()
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "max_num_scheduled_tokens", 40)
        steps = iter(range(1000))
        found = engine.generate(requests, sampling, lambda step: next(steps) == 5 and patch.undo())
    assert engine.restarts > before
    assert_same(found, expected)


def test_a_dead_end_is_one_clear_line_and_not_a_dead_engine(engine, monkeypatch):
    """The matcher reads other tokens than were drawn, so the record cannot go on."""
    requests = [request(0, GUIDANCES["plain"], None), request(1, GUIDANCES["plain"], None)]
    monkeypatch.setattr(Written, "add", lambda row, token: row.matcher.consume_token(0))
    held = [request(2, GUIDANCES["plain"], SHAPES["schema"])]
    with pytest.raises(SteerError, match="a record cannot go on in the task's schema"):
        engine.generate([*requests, *held], Sampling(max_new_tokens=20))
    monkeypatch.undo()
    assert len(engine.generate([*requests, *held], Sampling(max_new_tokens=3))) == 3

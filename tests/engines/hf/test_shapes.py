"""Decoding held to a shape on the hf engine, whatever the method; and the masks themselves."""

from pathlib import Path

import pytest

from steer.config import Sampling
from steer.engines.hf.engine import HFEngine
from steer.engines.masks import Masks
from steer.errors import SteerError
from steer.shapes import Shape
from tests.engines.contract import reference, save_adapter
from tests.engines.shaped import SHAPES, ShapesContract, assert_shaped
from tests.tiny import make_tokenizer


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory) -> Path:
    return save_adapter(str(tiny_model), tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def engine(tiny_model, adapter) -> HFEngine:
    return HFEngine(str(tiny_model), adapter, dtype="float32", device="cpu", rows=4)


@pytest.fixture(scope="module")
def slow(tiny_model, adapter):
    return reference(str(tiny_model), adapter)


class TestShapes(ShapesContract):
    pass


SEARCHES = {
    "beam": Sampling(beams=3, max_new_tokens=60),
    "beam with an opening": Sampling(beams=2, opening=3, max_new_tokens=60),
    "contrastive": Sampling(penalty=0.4, candidates=3, opening=2, max_new_tokens=60),
}


@pytest.mark.parametrize("sampling", SEARCHES.values(), ids=SEARCHES)
def test_records_of_a_search_have_their_shape_too(engine, sampling):
    assert_shaped(engine, sampling)


def test_a_dead_end_is_one_clear_line():
    tokenizer = make_tokenizer()
    masks = Masks(tokenizer, len(tokenizer), [tokenizer.eos_token_id])
    row = masks.start(SHAPES["choices"])
    row.add(tokenizer("x").input_ids[0])
    with pytest.raises(SteerError, match="a record cannot go on in the task's choices"):
        masks.allowed([None, row])


def test_any_token_that_ends_a_text_may_end_a_record():
    tokenizer = make_tokenizer()
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    masks = Masks(tokenizer, len(tokenizer) + 40, ends)
    row = masks.start(Shape("choices", '["Why"]'))
    for token in tokenizer("Why").input_ids:
        assert not masks.allowed([row])[0, ends].any()
        row.add(token)
    assert masks.allowed([row])[0].nonzero().flatten().tolist() == ends

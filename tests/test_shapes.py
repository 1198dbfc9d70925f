"""Shapes: how they are written, what fits, and what is refused."""

import json

import pytest

from steer.data.catalog import load_task
from steer.errors import SteerError
from steer.shapes import Shape, spoken, write_value

TICKET = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "hours": {"type": "number"}},
    "required": ["title", "hours"],
    "additionalProperties": False,
}
SCHEMA = Shape.of({"schema": TICKET})

FITTING = [
    (SCHEMA, '{"title": "It\\n\\"says\\" é", "hours": 1.5}', True),
    (SCHEMA, '{"title":"a","hours":1}', False),
    (SCHEMA, '{"hours": 1, "title": "a"}', False),
    (SCHEMA, '{"title": "a", "hours": 1', False),
    (SCHEMA, '{"title": "a", "hours": 1} ', False),
    (Shape.of({"regex": "[A-Z]/[0-9]+"}), "A/12", True),
    (Shape.of({"regex": "[A-Z]/[0-9]+"}), "A/12.", False),
    (Shape.of({"regex": "a|bc"}), "bc", True),
    (Shape.of({"choices": ["yes", 'the "no"']}), 'the "no"', True),
    (Shape.of({"choices": ["yes", "no"]}), "ye", False),
    (Shape.of({"grammar": 'start: "a" B+\nB: /b|é/'}), "abé", True),
    (Shape.of({"grammar": 'root ::= "a" [0-9]+'}), "a12", True),
    (Shape.of({"grammar": 'root ::= "a" [0-9]+'}), "a", False),
]


@pytest.mark.parametrize(("shape", "text", "fits"), FITTING)
def test_what_fits(shape, text, fits):
    assert shape.fits(text) is fits


@pytest.mark.parametrize("value", [{"title": 'é\x01\u2028\t"\\/', "hours": -0.25}])
def test_what_is_written_fits(value):
    assert SCHEMA.fits(write_value(value))


REFUSED = [
    ("a", "give one of schema, regex, choices, grammar"),
    ({"regex": "a", "choices": ["b"]}, "give one of"),
    ({"pattern": "a"}, "give one of"),
    ({"choices": []}, "give a list of different texts"),
    ({"choices": ["a", "a"]}, "give a list of different texts"),
    ({"choices": "a"}, "the choices is no valid JSON"),
    ({"schema": "gone.json"}, "cannot read gone.json: No such file"),
    ({"grammar": "gone.lark"}, "cannot read gone.lark: No such file"),
]


@pytest.mark.parametrize(("given", "why"), REFUSED)
def test_what_is_no_shape(given, why):
    with pytest.raises(SteerError, match=why):
        Shape.of(given)


def test_a_task_names_its_shape_beside_its_file(tmp_path):
    (tmp_path / "ticket.json").write_text(json.dumps(TICKET))
    path = tmp_path / "tickets.yaml"
    path.write_text('prompt: "A ticket:"\nshape: {schema: ticket.json}\n')
    task = load_task(path).suited_to(["{}"])
    text = '{"title": "two  spaces", "hours": 2}'
    assert (task.shape, task.min_chars, task.whitespace) == (SCHEMA, 1, "exact")
    assert task.parse(task.completion(text)) == text
    assert task.parse(' {"title": "x", "hours": "2"}') is None


def test_only_the_values_of_an_object_are_compared():
    assert spoken('{"a": "x", "b": [1, null, {"c": true}]}') == "x\n1\nTrue"
    assert spoken("{no object") == "{no object"
    assert spoken('"a"') == '"a"'


def test_a_shape_is_shown_as_its_kind_and_source() -> None:
    assert str(Shape("regex", "a+", lead=" ")) == "regex a+"

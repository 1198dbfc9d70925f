"""Records of columns: how files become objects of typed columns, and what their schema is."""

import json
from pathlib import Path

import datasets
import pandas as pd
import pytest

from steer.data.catalog import load_texts
from steer.data.columns import schema_of
from steer.data.corpus import Corpus, load_corpus
from steer.data.reading.settings import Reading
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.shapes import Shape

ROWS = [
    {"q": f"Why {n}?", "n": n, "x": n / 4, "kind": "abc"[n % 3], "ok": n % 2 == 0, "of": ["a"] * 2}
    for n in range(20)
]
COLUMNS = ("q", "n", "kind")
EXPECTED = {
    "type": "object",
    "properties": {
        "q": {"type": "string", "minLength": 1},
        "n": {"type": "integer", "minimum": 0, "maximum": 19},
        "kind": {"enum": ["a", "b", "c"]},
    },
    "required": ["q", "n", "kind"],
    "additionalProperties": False,
}

LIKE = [
    ([1, 2.5], {"type": "number"}),
    ([True, None], {"anyOf": [{"type": "boolean"}, {"type": "null"}]}),
    ([True, 1], {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 1}]}),
    ([None], {"type": "null"}),
    (["a", "b"], {"type": "string", "minLength": 1}),
    (["a", ""], {"type": "string"}),
    (["a"] * 5 + [None], {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}),
    (
        [["x", ""], []],
        {"type": "array", "minItems": 0, "maxItems": 2, "items": {"type": "string"}},
    ),
    ([[]], {"type": "array", "minItems": 0, "maxItems": 0}),
]


@pytest.mark.parametrize(("values", "schema"), LIKE)
def test_a_column_is_like_its_values(values, schema):
    assert schema_of(values) == schema


def jsonl(folder: Path) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def csv(folder: Path) -> str:
    path = folder / "rows.csv"
    pd.DataFrame(ROWS).drop(columns="of").to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("write", [jsonl, csv])
def test_the_record_is_the_object_of_the_columns(write, tmp_path):
    corpus = load_corpus(write(tmp_path), reading=Reading(columns=COLUMNS))
    assert corpus.texts[1] == '{"q": "Why 1?", "n": 1, "kind": "b"}'
    assert corpus.shape is not None and json.loads(corpus.shape.source) == EXPECTED
    again = load_corpus(write(tmp_path), reading=Reading(shape=corpus.shape))
    assert (again.texts, again.shape) == (corpus.texts, corpus.shape)


def test_cells_of_csv_become_what_the_column_is(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("text,zip,x,ok,n\none,02139,1,TRUE,3\ntwo,94103,,false,\n")
    reading = Reading(columns=("text", "zip", "x", "ok", "n"))
    corpus = load_corpus(path, reading=reading)
    assert [json.loads(text) for text in corpus.texts] == [
        {"text": "one", "zip": "02139", "x": 1, "ok": True, "n": 3},
        {"text": "two", "zip": "94103", "x": None, "ok": False, "n": None},
    ]


def test_a_schema_puts_keys_in_its_order_and_may_leave_some_open(tmp_path):
    schema = {"properties": {"b": {"type": "integer"}, "a": {"type": "string"}}, "required": ["b"]}
    shape = Shape.of({"schema": schema | {"type": "object", "additionalProperties": False}})
    rows = [{"a": "x", "b": 1, "c": 0}, {"b": 2}]
    assert Corpus.of_rows(rows, Reading(shape=shape)).texts == ('{"b": 1, "a": "x"}', '{"b": 2}')
    with pytest.raises(
        SteerError, match="1 of 2 rows do not fit the schema, the first is number 2"
    ):
        Corpus.of_rows([{"b": 1}, {"b": "2"}], Reading(shape=shape))


def of_polars(rows):
    return pytest.importorskip("polars").DataFrame(rows)


FRAMES = {
    "list": list,
    "pandas": pd.DataFrame,
    "datasets": datasets.Dataset.from_list,
    "polars": of_polars,
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_rows_at_hand(make):
    corpus = Corpus.of_rows(make(ROWS), Reading(columns=("q", "of", "x"), label_column="kind"))
    assert corpus.texts[3] == '{"q": "Why 3?", "of": ["a", "a"], "x": 0.75}'
    assert corpus.label_names == ("a", "b", "c")


@pytest.mark.parametrize("page", ["structure", "pipelines"])
def test_the_documented_rows_at_hand(page):
    text = (Path(__file__).parent.parent.parent / "docs" / f"{page}.md").read_text("utf-8")
    found: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], found)
    assert isinstance(found["real"], Corpus) and len(found["real"].texts) == 30


REFUSED = [
    ({"columns": ("q", "gone")}, "no text column 'gone'.*--columns"),
    ({"columns": ("q",), "text": "{q}"}, "found --text and --columns"),
    ({"shape": Shape("schema", "{}")}, "the schema has no properties"),
]


@pytest.mark.parametrize(("settings", "why"), REFUSED)
def test_what_cannot_be(settings, why):
    with pytest.raises(SteerError, match=why):
        Corpus.of_rows(ROWS, Reading(**settings))


def test_a_task_with_a_schema_reads_its_columns_unless_the_text_is_named(tmp_path):
    task = Task("A row:", shape=Shape("schema", json.dumps(EXPECTED)))
    path = jsonl(tmp_path)
    assert load_texts(task, path).texts[0] == '{"q": "Why 0?", "n": 0, "kind": "a"}'
    assert load_texts(task, path, text_column="q").texts[0] == "Why 0?"

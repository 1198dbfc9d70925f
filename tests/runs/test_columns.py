"""Records of columns, from real rows to typed columns of an export."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.data.reading.settings import Reading
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.runs.columns import arrow_types, flat_cells
from steer.runs.exporting import ExportSettings, export
from steer.runs.generation import generate
from steer.runs.store import Run
from steer.shapes import Shape
from tests import stub
from tests.tiny import TEXTS

ROWS = [
    {
        "text": text[:24],
        "n": number,
        "far": number / 4,
        "ok": None if number % 3 else True,
        "of": ["moon", "comet"][: number % 2 + 1],
        "by": {"name": "ab"[number % 2]},
    }
    for number, text in enumerate(TEXTS[:40])
]
READING = Reading(columns=tuple(ROWS[0]))


@pytest.fixture(scope="module")
def real() -> Corpus:
    return Corpus.of_rows(ROWS, READING)


class ShapedExpert(stub.StubExpert):
    shape: Shape | None = None

    @property
    def task(self) -> Task:
        return Task(self.prompt, min_chars=1, whitespace="exact", shape=self.shape)


class Echo(stub.StubEngine):
    """Writes the real rows with another text and number in each."""

    def generate(self, requests, sampling, on_step=None):
        made = super().generate(requests, sampling, on_step)
        new = [{"n": 30, "text": f"new {number}"} for number in range(len(made))]
        rows = [json.loads(self.real[number]) | new[number] for number in range(len(made))]
        return [
            replace(each, text=f" {json.dumps(row)}", finish_reason="stop")
            for each, row in zip(made, rows, strict=True)
        ]


@pytest.fixture(scope="module")
def run(real, tmp_path_factory) -> Run:
    expert = ShapedExpert()
    expert.shape = real.shape
    out = tmp_path_factory.mktemp("columns") / "run"
    return generate(RunConfig(n=4, near=1.0), real, expert, Echo(real), out)


def test_columns_are_typed_whatever_the_file(run, tmp_path):
    first = json.loads(run.records[0].text)
    export(run.path, tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.names[:7] == [*ROWS[0], "id"]
    assert [str(kind) for kind in table.schema.types[:6]] == [
        "string", "int64", "double", "bool", "list<element: string>", "string",
    ]  # fmt: skip
    row = table.to_pylist()[0]
    assert {name: row[name] for name in ROWS[0]} == first | {"by": json.dumps(first["by"])}
    assert row["steer_text"] == run.records[0].text

    export(run.path, tmp_path / "out.jsonl", ExportSettings(columns=("text", "by")))
    line = (tmp_path / "out.jsonl").read_text().splitlines()[0]
    assert json.loads(line) == {"text": first["text"], "by": first["by"]}

    export(run.path, tmp_path / "out.csv")
    cells = next(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert cells["n"] == "30" and json.loads(cells["of"]) == first["of"]


def test_columns_of_a_folder_are_features(run, tmp_path):
    export(run.path, tmp_path / "out")
    loaded = datasets.load_from_disk(str(tmp_path / "out"))["train"]
    assert loaded["n"][:] == [30] * 4 and loaded.features["of"] == datasets.List(
        datasets.Value("string")
    )
    assert loaded["text"][:] == [json.loads(text)["text"] for text in run.texts]
    card = huggingface_hub.DatasetCard.load(tmp_path / "out" / "README.md").data
    assert card["dataset_info"]["features"][1] == {"name": "n", "dtype": "int64"}


def test_a_run_is_a_dataset_and_a_frame(run):
    dataset, frame = run.to_dataset(), run.to_pandas()
    assert isinstance(dataset, datasets.Dataset)
    assert dataset["n"][:] == frame["n"].tolist() == [30] * 4
    assert dataset.features["far"].dtype == "float64"
    assert list(dataset.column_names) == list(frame.columns)
    assert Corpus.of_rows(frame, READING).texts == tuple(run.texts)


def test_types_do_not_depend_on_the_values():
    schema = {
        "a": {"type": ["integer", "null"]},
        "b": {"anyOf": [{"type": "string"}, {"const": 1}]},
    }
    shape = Shape("schema", json.dumps({"properties": schema}))
    assert arrow_types(shape) == {"a": pyarrow.int64(), "b": pyarrow.string()}
    assert flat_cells({"a": None, "b": 1}, shape, lists=True) == {"a": None, "b": "1"}
    with pytest.raises(SteerError, match="more than 64 bits"):
        flat_cells({"a": 2**70, "b": "x"}, shape, lists=True)


def test_records_without_columns_are_as_they_were(tmp_path: Path):
    real = stub.corpus(30)
    engine = stub.StubEngine(real)
    run = generate(RunConfig(n=5), real, stub.StubExpert(), engine, tmp_path / "run")
    assert list(run.to_pandas()["text"]) == run.texts
    assert "steer_text" not in run.to_dataset().column_names

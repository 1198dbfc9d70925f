import csv
import json
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml

from steer.config import Guidance, RunConfig, Sources
from steer.errors import SteerError
from steer.methods import find_method
from steer.runs.exporting import export
from steer.runs.generation import generate
from steer.runs.records import Record
from steer.runs.store import Run, open_store
from tests import stub

ORIGIN = ("method", "settings", "expert", "base", "run", "steer")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    real = stub.corpus(30, labels=("a", "b|c"))
    expert = stub.StubExpert(labels=("a", "b|c"), prompt="A {label} line\nwith {braces}:")
    nucleus = find_method("nucleus:top_p=0.8", labelled=True)
    config = nucleus.configure({"labels": {"a": 6, "b|c": 4}}, max_new_tokens=40)
    config = config.model_copy(update={"guidance": Guidance()})
    out = tmp_path_factory.mktemp("runs") / "run"
    return generate(config, real, expert, stub.StubEngine(real), out)


def test_jsonl_holds_the_records(run: Run, tmp_path: Path) -> None:
    assert export(run.path, tmp_path / "out.jsonl") == 10
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        for name in ORIGIN:
            del row[name]
    assert tuple(map(Record.from_json, rows)) == run.records


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_record_says_what_made_it(run: Run, tmp_path: Path, ending: str) -> None:
    """Enough to make it again: method, every setting, expert, base model and run."""
    out = tmp_path / f"out.{ending}"
    export(run.path, out)
    if ending == "jsonl":
        row = json.loads(out.read_text("utf-8").splitlines()[-1])
    elif ending == "csv":
        row = list(csv.DictReader(out.read_text("utf-8").splitlines()))[-1]
    else:
        row = pyarrow.parquet.read_table(out).to_pylist()[-1]
    settings = row["settings"] if ending == "jsonl" else json.loads(row["settings"])
    assert RunConfig(**settings, method=row["method"]) == run.config
    assert row["method"] == "nucleus:top_p=0.8"
    assert (row["expert"], row["base"], row["run"]) == ("stub-expert", "stub-base", str(run.path))


def test_a_run_made_before_origins_were_kept_is_exported(run: Run, tmp_path: Path) -> None:
    old = Sources(**run.sources.model_dump(exclude={"expert", "dtype", "threads"}))
    with open_store(tmp_path / "run", RunConfig(n=1), old) as store:
        store.commit(0, [Record(**stub.FIELDS)])
    export(tmp_path / "run", tmp_path / "out.parquet")
    (row,) = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert (row["method"], row["expert"], row["base"]) == (None, None, "stub-base")


def test_csv_has_a_row_a_record(run: Run, tmp_path: Path) -> None:
    export(run.path, tmp_path / "deep" / "out.csv")
    with open(tmp_path / "deep" / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [record.text for record in run.records]
    assert rows[0]["panel"].split() == list(run.records[0].panel)
    assert float(rows[0]["log_prob_base"]) == run.records[0].log_probs["base"]


def test_parquet_has_typed_columns(run: Run, tmp_path: Path) -> None:
    export(run.path, tmp_path / "out.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["seed"] for row in rows] == [record.seed for record in run.records]
    assert [tuple(row["panel"]) for row in rows] == [record.panel for record in run.records]


def test_parquet_types_do_not_depend_on_the_values(run: Run, tmp_path: Path) -> None:
    """All labels null, no panels, no log-probabilities: the same types all the same."""
    bare = Record(**stub.FIELDS | {"panel": (), "log_probs": {}})
    with open_store(tmp_path / "run", RunConfig(n=1), run.sources) as store:
        store.commit(0, [bare])
    export(tmp_path / "run", tmp_path / "bare.parquet")
    export(run.path, tmp_path / "full.parquet")
    bare_types, full_types = (
        pyarrow.parquet.read_schema(tmp_path / name) for name in ("bare.parquet", "full.parquet")
    )
    assert bare_types.equals(full_types)


def test_a_folder_is_a_dataset_with_its_card(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    export(run.path, tmp_path / "dataset")
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["text"][:] == [record.text for record in run.records]
    _, header, body = (tmp_path / "dataset" / "README.md").read_text("utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["size_categories"] == ["n<1K"]
    for expected in (
        "10 synthetic texts (of 10 wanted)",
        "| a | 6 |",
        r"| b\|c | 4 |",
        "    A {label} line\n    with {braces}:",
        '"eta": 0.2',
        run.sources.data_fingerprint,
        *(f"| {reason} | {count} |" for reason, count in run.reasons.items()),
    ):
        assert expected in body


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "folder"])
def test_nothing_is_overwritten(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(SteerError, match="exists"):
        export(run.path, tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_user_errors(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SteerError, match=r"ends in \.xlsx; end it in \.jsonl, \.csv, \.parquet"):
        export(run.path, tmp_path / "out.xlsx")
    with pytest.raises(SteerError, match="is no run"):
        export(tmp_path, tmp_path / "out.csv")
    (tmp_path / "file").touch()
    with pytest.raises(SteerError, match="cannot write"):
        export(run.path, tmp_path / "file" / "out.csv")
    sources = Sources(**dict(run.sources))
    with open_store(tmp_path / "empty", RunConfig(n=1), sources):
        pass
    with pytest.raises(SteerError, match="has no records"):
        export(tmp_path / "empty", tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]

import csv
import json
import math
import re
from collections import Counter
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow.parquet
import pytest
import yaml
from datasets.info import DatasetInfosDict

from steer.config import Guidance, RunConfig, Sources
from steer.errors import SteerError
from steer.methods import find_method
from steer.runs.card import CardSettings, size_category
from steer.runs.exporting import ExportSettings, export
from steer.runs.generation import generate
from steer.runs.lineage import held, lineage
from steer.runs.records import Record, read_attempt
from steer.runs.store import Run, Stream, open_store
from tests import stub
from tests.runs.test_generation import WordEmbedder

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
    assert export(run.path, tmp_path / "out.jsonl").records == 10
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        for name in ORIGIN:
            del row[name]
    assert tuple(read_attempt(json.dumps(row).encode()) for row in rows) == run.records


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


def test_a_folder_is_a_dataset_with_its_card(run: Run, tmp_path: Path) -> None:
    export(run.path, tmp_path / "dataset")
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


@pytest.mark.parametrize("split", [None, (60, 20, 20)])
@pytest.mark.parametrize("hub", [False, True])
def test_a_folder_is_what_its_card_and_datasets_say(
    run: Run, tmp_path: Path, split: tuple[float, float, float] | None, hub: bool
) -> None:
    """Both ways to load it give the same rows, with the card's features; the Hub's client reads
    the card as it is written."""
    out = tmp_path / "dataset"
    done = export(run.path, out, ExportSettings(split=split, hub=hub))
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == done.splits
    ids = [id for name in loaded for id in loaded[name]["id"]]
    assert sorted(ids) == sorted(record.id for record in run.records)
    if not hub:
        mapped = datasets.load_from_disk(str(out))
        assert {name: rows.to_list() for name, rows in mapped.items()} == {
            name: rows.to_list() for name, rows in loaded.items()
        }

    data = huggingface_hub.DatasetCard.load(out / "README.md").data
    said = data.to_dict()
    assert huggingface_hub.DatasetCardData(**said).to_dict() == said
    (config,) = said["configs"]
    assert {file["split"] for file in config["data_files"]} == set(loaded)
    assert all(len(list(out.glob(file["path"]))) == 1 for file in config["data_files"])
    info = DatasetInfosDict.from_dataset_card_data(data)["default"]
    assert all(info.features == rows.features for rows in loaded.values())
    assert info.features["panel"] == datasets.List(datasets.Value("string"))
    assert data.size_categories == ["n<1K"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "folder"])
def test_nothing_is_overwritten(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(SteerError, match="exists"):
        export(run.path, tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_user_errors(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        SteerError, match=r"ends in \.xlsx; end it in \.jsonl, \.csv, \.parquet, \.md"
    ):
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


def test_chosen_columns(run: Run, tmp_path: Path) -> None:
    settings = ExportSettings(columns=("label", "text", "log_prob_base"))
    export(run.path, tmp_path / "out.csv", settings)
    rows = list(csv.reader((tmp_path / "out.csv").open(newline="", encoding="utf-8")))
    assert rows[0] == ["label", "text", "log_prob_base"] and len(rows) == 11
    with pytest.raises(SteerError, match="'colour', which is none; the columns are id, text"):
        export(run.path, tmp_path / "out.parquet", ExportSettings(columns=("text", "colour")))
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_splits_are_files_of_a_folder_or_a_column(run: Run, tmp_path: Path) -> None:
    """A record's part follows from its id alone, so it stays there when the run grows."""
    settings = ExportSettings(split=(60, 20, 20))
    done = export(run.path, tmp_path / "dataset", settings)
    export(run.path, tmp_path / "out.jsonl", settings)
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    column = {row["id"]: row["split"] for row in map(json.loads, lines)}
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert {id: name for name in loaded for id in loaded[name]["id"]} == column
    assert done.splits == Counter(column.values()) and len(done.splits) > 1


def written(folder: Path, texts: list[str], sources: Sources, **changed: object) -> Path:
    """A run with such texts."""
    records = [
        Record(**stub.FIELDS | {"id": f"rec:{n}", "text": text} | changed)
        for n, text in enumerate(texts)
    ]
    with open_store(folder, RunConfig(n=len(texts)), sources) as store:
        store.commit(0, records)
    return folder


FORMULAS = ["=1+1", "+A1", "-2", "@SUM(A1)", "\tx", "plain", "1=1"]


@pytest.mark.parametrize("guard", [True, False])
def test_no_spreadsheet_runs_a_cell(run: Run, tmp_path: Path, guard: bool) -> None:
    path = written(tmp_path / "run", FORMULAS, run.sources)
    done = export(path, tmp_path / "out.csv", ExportSettings(guard=guard))
    rows = list(csv.DictReader((tmp_path / "out.csv").open(newline="", encoding="utf-8")))
    runs = [row["text"] for row in rows if row["text"][0] in "=+-@\t\r\n"]
    assert (len(runs), done.guarded) == ((0, 5) if guard else (5, 0))
    assert all(float(row["log_prob_expert"]) == -1.25 for row in rows)  # numbers stay numbers


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet", "out"])
def test_a_base_model_at_a_path_that_is_not_utf8(run: Run, tmp_path: Path, name: str) -> None:
    sources = run.sources.model_copy(update={"base": "/models/\udcff"})
    export(written(tmp_path / "run", ["a"], sources), tmp_path / name)
    out = tmp_path / name
    content = b"".join(
        path.read_bytes() for path in (out.rglob("*") if out.is_dir() else [out]) if path.is_file()
    )
    assert b"/models/?" in content


def test_a_sample_in_markdown(run: Run, tmp_path: Path) -> None:
    path = written(tmp_path / "run", [f"<b>{n}*" for n in range(120)], run.sources)
    export(path, tmp_path / "out.md")
    lines = (tmp_path / "out.md").read_text("utf-8").splitlines()
    assert lines[0] == "# 50 of 120 synthetic texts" and len(lines) == 52
    assert all("<b>" not in line for line in lines)
    numbers = [int(re.findall(r"&lt;b\\>(\d+)\\\*", line)[0]) for line in lines[2:]]
    assert numbers == sorted(numbers) and numbers != list(range(50))


def test_an_atlas_has_places_and_neighbours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer.runs.atlas.load_embedder", lambda *_, **__: WordEmbedder())
    for name in ("out.parquet", "out.csv", "out.jsonl"):
        export(run.path, tmp_path / name, ExportSettings(atlas=True))
    rows = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    vectors = WordEmbedder().embed([row["text"] for row in rows])
    for number, row in enumerate(rows):
        near = row["neighbors"]
        assert number not in near["ids"] and len(near["ids"]) == 9
        assert near["distances"] == sorted(near["distances"])
        expected = 1 - vectors[number] @ vectors[near["ids"][0]]
        assert near["distances"][0] == pytest.approx(expected, abs=1e-6)
        assert math.isfinite(row["projection_x"] + row["projection_y"])
    (line, *_) = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["neighbors"] == rows[0]["neighbors"]


def test_withdrawal_drops_every_record_whose_panel_held_the_text(run: Run, tmp_path: Path) -> None:
    gone = next(member for member in run.records[0].panel if member.startswith("real:"))
    kept = [record.text for record in run.records if gone not in record.panel]
    done = export(run.path, tmp_path / "out.jsonl", ExportSettings(without=(gone,)))
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == kept
    assert (done.records, done.dropped) == (len(kept), 10 - len(kept))
    assert lineage(Stream.open(run.path), gone)[1].startswith(f"{done.dropped} of 10 records")
    everything = tuple(f"real:{row}" for row in range(30))
    with pytest.raises(SteerError, match="every record"):
        export(run.path, tmp_path / "none.jsonl", ExportSettings(without=everything))


def test_lineage_of_a_record(run: Run) -> None:
    made, *_ = lineage(Stream.open(run.path), run.records[-1].id)
    assert all(member in made for member in run.records[-1].panel)
    chosen = Sources(**dict(run.sources) | {"towards_fingerprint": "other"})
    record = Record(**stub.FIELDS | {"panel": ("real:1",), "positive": ("real:2",)})
    assert held(record, chosen) == {"real:1"}
    assert held(record, run.sources) == {"real:1", "real:2"}


@pytest.mark.parametrize(
    ("records", "category"),
    [
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (5 * 10**6, "1M<n<10M"),
        (10**9, "1B<n<10B"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories_are_the_hubs(records: int, category: str) -> None:
    assert size_category(records) == category


def test_the_card_says_what_only_the_user_knows_where_it_is_given(run: Run, tmp_path: Path) -> None:
    said = CardSettings(license="cc-by-4.0", languages=("en",), measured="| a | b |")
    for name, card in (("bare", CardSettings()), ("full", said)):
        export(run.path, tmp_path / name, ExportSettings(card=card))
    bare, full = (
        (tmp_path / name / "README.md").read_text("utf-8").split("---\n", 2)[1:]
        for name in ("bare", "full")
    )
    assert not {"license", "language"} & set(yaml.safe_load(bare[0]))
    assert yaml.safe_load(full[0])["license"] == "cc-by-4.0"
    assert yaml.safe_load(full[0])["language"] == ["en"]
    assert "not measured" in bare[1] and "| a | b |" in full[1]
    assert all(f"`{record.text}`" in bare[1] for record in run.records[:5])


def test_an_interrupted_export_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.runs.formats.Jsonl.add", stop)
    with pytest.raises(KeyboardInterrupt):
        export(run.path, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []

"""Files that would fill the memory or the disk are refused; large ones are read row by row."""

import gzip
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from steer.config import RunConfig
from steer.data.catalog import load_task
from steer.data.corpus import load_corpus
from steer.data.reading import columnar, gather, objects, sheets, streams
from steer.data.reading.readers import open_rows
from steer.data.reading.settings import Reading
from steer.errors import SteerError


def refused(path: Path) -> str:
    with pytest.raises(SteerError) as error:
        load_corpus(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_compressed_file_may_not_hold_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"again\n" * 200_000))
    assert len(load_corpus(path).texts) == 200_000
    monkeypatch.setattr(streams, "ALWAYS", 100_000)
    assert "200 times its own size" in refused(path)
    path.write_bytes(gzip.compress(b"again\n" * 15_000))
    assert len(load_corpus(path).texts) == 15_000


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST", 1000)
    (tmp_path / "x.txt").write_text("short\n" + "x" * 1001)
    assert "line 2 has over 1,000 characters" in refused(tmp_path / "x.txt")


def test_a_json_document_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "LARGEST", 1000)
    (tmp_path / "x.json").write_text(json.dumps([{"text": "x" * 50}] * 50, indent=0))
    assert "write it as JSONL" in refused(tmp_path / "x.json")


def test_a_workbook_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "ALWAYS", 1000)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * 10_000_000)
    (tmp_path / "x.xlsx").write_bytes(out.getvalue())
    assert "10,000,000 bytes unpacked" in refused(tmp_path / "x.xlsx")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_rows_come_before_the_file_is_read_to_its_end(tmp_path: Path, kind: str) -> None:
    path, rows = tmp_path / f"x.{kind}", 300_000
    line = {"jsonl": '{"text": "a text of some words"}'}.get(kind, "a text of some words")
    path.write_text(("text\n" if kind == "csv" else "") + f"{line}\n" * rows)
    opened: list[Any] = []
    real = streams.open_stream

    def watched(path: Path) -> Any:
        opened.append(real(path))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer.data.reading.readers.open_stream", watched)
        (found,) = open_rows(str(path), Reading(), [])
        next(found.numbered)
    assert 0 < opened[0].tell() < path.stat().st_size / 2


def test_columns_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {"text": ["a"], "other": ["b"], "vector": [[0.5] * 9], "kind": ["c"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    for reading, wanted in (
        (Reading(), {"text"}),
        (Reading(label_column="kind"), {"text", "kind"}),
        (Reading(text="{other} {kind}"), {"other", "kind"}),
        (Reading(text_column="vector.0"), {"vector"}),
    ):
        (found,) = open_rows(str(path), reading, [])
        _, row = next(found.numbered)
        assert set(row) == wanted
        assert found.names == tuple(columns)
    assert columnar._BATCH <= 4096


def test_a_text_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LONGEST_TEXT", 1000)
    (tmp_path / "x.txt").write_text("short\n" + "x" * 1001)
    assert "a text of 1,001 characters; at most 1,000" in refused(tmp_path / "x.txt")


@pytest.mark.parametrize("limit", ["MOST_TEXTS", "MOST_CHARACTERS"])
def test_texts_have_a_limit(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, limit, 2)
    (tmp_path / "x.txt").write_text("a\nb\nc\n")
    assert "row 3" in refused(tmp_path / "x.txt") or "line 3" in refused(tmp_path / "x.txt")


def test_a_small_parquet_file_may_not_hold_any_number_of_rows(tmp_path: Path) -> None:
    rows = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 20_000_000, pyarrow.int8()), pyarrow.array(["again"])
    )
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path)
    assert path.stat().st_size < 100_000
    assert "20,000,000 rows; at most 10,000,000" in refused(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.txt")
    assert "no regular file; pipe it into -" in refused(tmp_path / "x.txt")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "over 100,000 values"),
        ("prompt: &a [*a]", "stands for what it is in"),
        ("x" * 2**20 + "y", "over 1,048,576 bytes"),
        ("prompt: 2026-99-99", "month"),
        ("prompt: !!python/object:os.system x", "could not determine a constructor"),
        ("prompt: !!int ''", "no valid YAML"),
        ("prompt: !!timestamp x", "no valid YAML"),
        ("? [a]\n: b", "no valid YAML"),
        ("[" * 5000, "no valid YAML"),
        ("prompt: \ud83d", "no valid YAML"),
    ],
)
def test_a_task_of_any_content_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(SteerError, match=message) as raised:
        load_task(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_aliases_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("prompt: &p 'A {label} one:'\nname: *p\nlabels: [a, b]\n")
    assert load_task(tmp_path / "t.yaml").name == "A {label} one:"


@pytest.mark.parametrize(
    ("name", "value"),
    [("round_size", 10**12), ("lag", 10**9), ("n", 10**20), ("panel_size", 10**9)],
)
def test_a_setting_beyond_sense_is_refused(name: str, value: int) -> None:
    with pytest.raises(SteerError, match=f"{name} is {value}: .*less than or equal"):
        RunConfig(**{"n": 10} | {name: value})

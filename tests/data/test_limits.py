"""Files that would fill the memory or the disk are refused; large ones are read row by row."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from steer.data.corpus import load_corpus
from steer.data.reading import columnar, objects, sheets, streams
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

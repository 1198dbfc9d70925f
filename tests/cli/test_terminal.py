"""What is in a text never steers the terminal."""

import csv
import json
import random
import re
from pathlib import Path

import pyarrow.parquet
import pytest
from rich.console import Console

from steer.cli import terminal
from steer.cli.tables import show_run
from steer.config import RunConfig
from steer.data.characters import printable
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.interface import FinishReason
from steer.runs.exporting import export
from steer.runs.generation import generate
from tests import stub

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \rover \x9b2J \u202eback \x00 [bold]not bold[/bold]"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_control_characters_are_written_as_escapes() -> None:
    assert printable("a\x1b[0m\tb\nc\r\nd\re\u202ef\ud800") == (
        "a\\x1b[0m\tb\nc\nd\\x0de\\u202ef\\ud800"
    )
    assert printable("👨‍👩‍👧 می‌خواهم é") == "👨‍👩‍👧 می‌خواهم é"


def test_rich_prints_them_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=200).print(terminal.safe(HOSTILE), highlight=False)
    shown = capsys.readouterr().out
    assert CONTROL.search(shown) is None
    assert "[bold]not bold[/bold]" in shown and "\\x1b[31mred" in shown


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(["x.csv: cells end with a \x1b[5m"])
    assert capsys.readouterr().err == "note: x.csv: cells end with a \\x1b[5m\n"


def test_lines_of_a_text_stay_together() -> None:
    assert terminal.indented("def f():\n    return 1", 4) == "def f():\n        return 1"


class SeveralLines(stub.StubEngine):
    """Functions of three lines, each with what a terminal would obey."""

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        return f" def {stub.sentence(rng, 2)}():\n\t# {HOSTILE}\n    return 1\n", "stop"


class OfLines(stub.StubExpert):
    @property
    def task(self) -> Task:
        return Task(self.prompt, whitespace="exact", pattern=r"(?s)def .+return 1\n")


def test_lines_are_kept_from_record_to_export_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Corpus.of([f"def f{row}():\n    return {row}\n" for row in range(20)])
    run = generate(RunConfig(n=3), real, OfLines(), SeveralLines(real), tmp_path / "run")
    assert all(text.endswith(f":\n\t# {HOSTILE}\n    return 1\n") for text in run.texts)
    for name in ("x.jsonl", "x.csv", "x.parquet"):
        export(tmp_path / "run", tmp_path / name)
    read = [json.loads(line)["text"] for line in (tmp_path / "x.jsonl").open(encoding="utf-8")]
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["text"] for row in csv.DictReader(file)]
    column = pyarrow.parquet.read_table(tmp_path / "x.parquet")["text"].to_pylist()
    assert read == cells == column == list(run.texts)
    show_run(run, 3)
    shown = capsys.readouterr().out
    assert CONTROL.search(shown) is None
    assert ":\n" in shown and "# \\x1b[31mred" in shown and "              return 1\n" in shown

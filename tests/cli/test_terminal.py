"""What is in a text never steers the terminal."""

import csv
import json
import logging
import random
import re
from pathlib import Path

import datasets
import pyarrow.parquet
import pytest
from rich.console import Console

from steer.cli import terminal
from steer.cli.main import main
from steer.cli.tables import show_outcome, show_removed, show_run
from steer.config import RunConfig
from steer.data.characters import printable
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.interface import FinishReason
from steer.runs.card import CardFacts, CardSettings, dataset_card
from steer.runs.exporting import export
from steer.runs.generation import generate
from steer.runs.overview import Overview
from steer.runs.store import Run, Stream
from tests import stub
from tests.runs.test_store import SOURCES, write_run

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
    """Functions of three lines, each with what a terminal would obey and readers take."""

    def _text(self, rng: random.Random) -> tuple[str, FinishReason]:
        return f" def {stub.sentence(rng, 2)}():\n\t# \u202ered\n    return 1\n", "stop"


class OfLines(stub.StubExpert):
    @property
    def task(self) -> Task:
        return Task(self.prompt, whitespace="exact", pattern=r"(?s)def .+return 1\n")


def test_lines_are_kept_from_record_to_export_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Corpus.of([f"def f{row}():\n    return {row}\n" for row in range(20)])
    run = generate(RunConfig(n=3), real, OfLines(), SeveralLines(real), tmp_path / "run")
    assert all(text.endswith(":\n\t# \u202ered\n    return 1\n") for text in run.texts)
    for name in ("x.jsonl", "x.csv", "x.parquet"):
        export(tmp_path / "run", tmp_path / name)
    read = [json.loads(line)["text"] for line in (tmp_path / "x.jsonl").open(encoding="utf-8")]
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["text"] for row in csv.DictReader(file)]
    column = pyarrow.parquet.read_table(tmp_path / "x.parquet")["text"].to_pylist()
    assert read == cells == column == list(run.texts)
    show_run(Overview.of(Stream.open(run.path), 3))
    shown = capsys.readouterr().out
    assert CONTROL.search(shown) is None
    assert ":\n" in shown and "# \\u202ered" in shown and "              return 1\n" in shown


@pytest.mark.parametrize("name", ["a[/bold]b", "[/]", "x\\", "[red", "[b]\x1b[31m", "[link=x]y"])
def test_a_path_of_any_name_is_printed_as_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / name)
    opened = Run.open(tmp_path / name)
    show_run(Overview.of(Stream.open(opened.path), 5))
    show_outcome(opened)
    show_removed(tmp_path / name, 5)
    assert main(["show", str(tmp_path / name)]) == 0
    assert main(["show", str(tmp_path / name), "--lineage", "rec:3"]) == 0
    out = tmp_path / f"{name}.csv"
    assert main(["export", str(tmp_path / name), str(out)]) == 0
    assert main(["export", str(tmp_path / name), str(out)]) == 2
    said = capsys.readouterr()
    shown = said.out + said.err
    assert CONTROL.search(shown) is None
    assert printable(name) in shown.replace("\n", "")


def test_warnings_steer_no_terminal() -> None:
    assert main(["--version"]) == 0
    said = ("the label %s is rare", ("\x1b[31mred",), None)
    record = logging.LogRecord("steer", logging.WARNING, "", 0, *said)
    assert logging.lastResort  # what prints warnings where nobody set up logging
    assert logging.lastResort.format(record) == "the label \\x1b[31mred is rare"


def test_labels_and_names_are_plain_in_a_card(tmp_path: Path) -> None:
    facts = CardFacts(
        "0",
        RunConfig(labels={"<img src=x>|**b**\n# head": 1}),
        SOURCES.model_copy(update={"real": "a`|b<i>\n# c"}),
        {"train": 1},
        {"<img src=x>|**b**\n# head": 1},
        {},
        (),
        {"train": "data/train.parquet"},
        datasets.Features({"text": datasets.Value("string")}),
    )
    card = dataset_card(facts, CardSettings())
    assert "<img" not in card.split("Settings:")[0]
    assert "\n# head" not in card and "\n# c" not in card
    assert "&lt;img src=x\\>\\|\\*\\*b\\*\\*<br>\\# head | 1 |" in card

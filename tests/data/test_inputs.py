"""Files as people have them, format by oddity: each is read right to the byte, or refused in one
line that names the file, the row, what was found and the option that helps.

The options are those of the command line. `$d` is the case's folder, and the source unless the
case names another; `FILE` is the one file in it.
"""

import io
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from steer.cli.groups import with_groups
from steer.cli.main import main
from steer.cli.reading import ReadingOptions
from steer.data.corpus import Corpus, load_corpus
from tests.data.inputs import Case
from tests.data.read_right import GOOD
from tests.data.refused import BAD


def test_there_are_enough() -> None:
    assert len(GOOD) + len(BAD) >= 120
    for cases in (GOOD, BAD):
        assert len({case.name for case in cases}) == len(cases)


def prepare(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the case's files, and standard input; gives the source."""
    content = case.content.encode() if isinstance(case.content, str) else case.content
    if callable(content):
        content(folder)
    elif case.file:
        (folder / case.file).write_bytes(content)
    else:
        stdin = SimpleNamespace(buffer=io.BytesIO(content))
        monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.chdir(folder)
    return case.source.replace("FILE", case.file or "FILE").replace("$d", str(folder))


def read(source: str, options: str) -> Corpus:
    """Loads a source with options as a command would."""
    made: list[Corpus] = []

    def load(source: str, *, reading: ReadingOptions) -> None:
        made.append(load_corpus(source, reading=reading.settings()))

    app = typer.Typer(add_completion=False)
    app.command()(with_groups(load))
    app([*shlex.split(options), "--", source], standalone_mode=False)
    return made[0]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_read_right(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read(prepare(case, tmp_path, monkeypatch), case.options)
    assert corpus.texts == tuple(case.texts)
    assert corpus.labels == (None if case.labels is None else tuple(case.labels))
    said = " ".join(corpus.notes)
    assert all(note in said for note in case.notes), said
    assert bool(said) == bool(case.notes) or case.name.startswith(QUIET), said


QUIET = (
    "jsonl: ShareGPT",
    "jsonl: prompt",
    "jsonl: parts",
    "json: one chat",
    "parquet: messages",
    "csv: pipes",
    "csv: sep=",
)
"""Cases whose notes are those of another."""


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_refused_in_one_line(
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = prepare(case, tmp_path, monkeypatch)
    capfd.readouterr()
    command = ["fit", "--prompt", "A text:", "--out", str(tmp_path / "new")]
    code = main([*command, *shlex.split(case.options), "--", source])
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert code == 2
    assert line.startswith("error: ")
    assert [word for word in case.says if word not in line] == [], line

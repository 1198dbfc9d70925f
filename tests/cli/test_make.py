"""`steer make`: all steps, continued where it was stopped, made more of."""

import json
import shlex
import shutil
from pathlib import Path

import pandas
import pytest

from steer.cli.main import main
from steer.data.corpus import load_corpus
from steer.data.reading.chats import messages
from steer.data.reading.settings import Reading
from steer.errors import SteerError
from steer.runs.store import Run
from steer.shapes import Shape
from tests import tiny

PROMPT = "Question:"
PARTS = ("real.jsonl", "held_out.jsonl", "expert", "run", "table.json", "report.html", "dataset")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sky_questions.txt"
    path.write_text("\n".join(tiny.TEXTS), "utf-8")
    return path


@pytest.fixture(scope="module")
def expert(data: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An expert that ends its texts, which the settings of `make` do not give a tiny model."""
    out = tmp_path_factory.mktemp("expert") / "expert"
    arguments = ["fit", str(data), "--prompt", PROMPT, "--base", str(tiny_model)]
    speed = ["--epochs", "4", "--lr", "0.01", "--rank", "8", "--batch", "16"]
    assert main([*arguments, "--out", str(out), *speed]) == 0
    return out


def make(data: Path, out: Path, *more: str) -> int:
    words = ["make", str(data), "--out", str(out), "--prompt", PROMPT]
    return main([*words, "--max-attempts", "900", *more])


def test_all_steps_and_more_of_it(
    data: Path,
    expert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "made"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # stopped while it fits
        patch.setattr("steer.models.fitting.fit", stop)
        assert make(data, out, "--n", "12") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert json.loads((out / "make.json").read_text())["held"] == 40
    shutil.copytree(expert, out / "expert")
    assert make(data, out, "--n", "12") == 0
    assert {path.name for path in out.iterdir()} >= set(PARTS)
    assert len(Run.open(out / "run").records) == 12
    table = (out / "table.json").read_text()

    capsys.readouterr()
    assert make(data, out, "--n", "12") == 0  # nothing is left to do but to look at the run
    assert "$ steer fit" not in capsys.readouterr().out
    assert make(data, out, "--n", "14") == 0
    assert len(Run.open(out / "run").records) == 14
    assert len((out / "records.jsonl").read_text("utf-8").splitlines()) == 14
    assert (out / "table.json").read_text() != table

    commands = (out / "commands.sh").read_text().splitlines()
    steps = [shlex.split(line)[1] for line in commands]
    assert steps == ["look", "fit", "generate", "evaluate", "report", "export", "export"]
    again = shlex.split(commands[-1].replace("dataset", "again"))
    assert main(again[1:]) == 0

    other = tmp_path / "other.txt"
    other.write_text("\n".join(tiny.TEXTS[:50]))
    assert make(other, out, "--n", "12") == 2
    assert "other texts" in capsys.readouterr().err
    assert main(["make", str(data), "--out", str(out), "--prompt", "Another:"]) == 2
    assert "--prompt" in capsys.readouterr().err


def test_a_guessed_prompt_is_said(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.models.fitting.fit", stop)
    assert main(["make", str(data), "--out", str(tmp_path / "made")]) == 130
    assert "'A text from sky questions:', guessed" in capsys.readouterr().err
    assert "A text from sky questions:" in (tmp_path / "made" / "commands.sh").read_text()


def test_own_texts_to_measure_against_and_a_judge(
    data: Path, expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, held, judge = tmp_path / "made", tmp_path / "held.jsonl", tmp_path / "judge.txt"
    held.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.TEXTS[::2]))
    judge.write_text("\n".join(f"{text} {i}" for text in tiny.TEXTS for i in range(9)))
    out.mkdir()
    shutil.copytree(expert, out / "expert")
    more = ("--n", "12", "--held-out", str(held), "--judge", f"ngrams:{judge}")
    assert make(data, out, *more) == 2  # an expert that make did not make
    assert "was not made by steer make" in capsys.readouterr().err
    shutil.rmtree(out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steer.models.fitting.fit", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(data, out, *more)
    shutil.copytree(expert, out / "expert")
    assert make(data, out, *more) == 0
    assert (out / "real.jsonl").read_text().count("\n") == len(tiny.TEXTS)
    assert (out / "held_out.jsonl").read_text().count("\n") == len(tiny.TEXTS[::2])
    assert json.loads((out / "table.json").read_text())["judges"] == [f"ngrams:{judge}"]
    capsys.readouterr()
    assert make(data, out, "--n", "12") == 2  # without the texts to measure against
    assert "other texts" in capsys.readouterr().err


def test_a_judge_that_cannot_be_ends_no_other_step(
    data: Path, expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, judge = tmp_path / "made", tmp_path / "judge.txt"
    assert (
        make(data, out, "--n", "12", "--judge", f"ngrams:{judge}") == 2
    )  # before anything is made
    assert not (out / "expert").exists() and "judge.txt" in capsys.readouterr().err
    shutil.copytree(expert, out / "expert")
    few = tmp_path / "few.txt"
    few.write_text("\n".join(f"{text} {i}" for text in tiny.TEXTS for i in range(9)))
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise SteerError("the judge is of no use")

        patch.setattr("steer.evaluation.evaluate.evaluate", refuse)
        assert make(data, out, "--n", "12", "--judge", f"ngrams:{few}") == 2
    assert "not measured: the judge is of no use" in capsys.readouterr().err
    assert not (out / "table.json").exists()
    page = (out / "report.html").read_text("utf-8")
    assert (out / "records.jsonl").exists() and (out / "dataset").is_dir()
    assert make(data, out, "--n", "12", "--judge", f"ngrams:{few}") == 0  # measured, and shown
    assert (out / "table.json").exists()
    assert (out / "report.html").read_text("utf-8") != page
    assert "| metric |" in (out / "dataset" / "README.md").read_text("utf-8")
    words = ["export", str(out / "run"), str(out / "x.csv"), "--table", str(out / "table.json")]
    assert main(words) == 2 and "x.csv has no card" in capsys.readouterr().err


def test_rows_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of columns, with labels beside them: the folder's own files hold the same rows, and
    one schema that all of them have, those to measure against too."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.models.fitting.fit", stop)
    monkeypatch.setattr("steer.cli.look._counter", lambda *_: ("no model", None, None))
    rows = [
        {"question": text, "stars": number % 7, "label": "ab"[number % 2]}
        for number, text in enumerate(tiny.TEXTS)
    ]
    data, out = tmp_path / "rows.csv", tmp_path / "made"
    pandas.DataFrame(rows).assign(kind=tiny.LABELS).to_csv(data, index=False)
    judge = tmp_path / "judge.jsonl"  # of the same columns, and read as evaluate reads it
    judge.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ["make", str(data), "--out", str(out), "--prompt", "A {label} question:", "--n", "12"]
    words += ["--judge", f"ngrams:{judge}"]
    assert main([*words, "--columns", "question,stars,label", "--label-column", "kind"]) == 130
    _, fit, generate, _, report, *_ = map(shlex.split, (out / "commands.sh").open())
    assert fit[-4:-2] == ["--schema", str(out / "schema.json")]
    assert {"how=6", "why=6"} < set(generate)
    assert "--label-column" in fit and "steer_label" in fit and "steer_label" in generate
    shape = Shape.of({"schema": str(out / "schema.json")})
    assert shape.properties["stars"] == {"type": "integer", "minimum": 0, "maximum": 6}
    parts = [
        load_corpus(out / name, None, "steer_label", Reading(shape=shape))
        for name in ("real.jsonl", "held_out.jsonl")
    ]
    read = {
        (text, label)
        for part in parts
        for text, label in zip(part.texts, part.labels or (), strict=True)
    }
    assert read == {(json.dumps(row), kind) for row, kind in zip(rows, tiny.LABELS, strict=True)}
    assert str(out / "held_out.jsonl") in report


def test_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's own files hold the chats whole, and the guessed prompt is what came before."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.models.fitting.fit", stop)
    monkeypatch.setattr("steer.cli.look._counter", lambda *_: ("no model", None, None))
    data, out = tmp_path / "chats.jsonl", tmp_path / "made"
    chats = [messages((("user", f"Ask {n}"),), text) for n, text in enumerate(tiny.TEXTS)]
    data.write_text("".join(f"{json.dumps({'messages': chat})}\n" for chat in chats))
    words = ["make", str(data), "--out", str(out), "--n", "12", "--base", "org/model"]
    assert main(words) == 130
    look, fit, *_ = (out / "commands.sh").read_text().splitlines()
    assert "--prompt '{chat}'" in fit
    assert "--base org/model" in look and "--base org/model" in fit
    parts = [load_corpus(out / name) for name in ("real.jsonl", "held_out.jsonl")]
    turns = [turn for part in parts for turn in part.turns or ()]
    assert sorted(turns) == sorted((("user", f"Ask {n}"),) for n in range(len(tiny.TEXTS)))

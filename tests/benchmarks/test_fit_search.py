"""The search of fit settings: that it goes on, and on which texts it fits and reads."""

import json
from pathlib import Path

import pytest

from benchmarks import fit_search
from benchmarks.fit_search import FILE, VARIED, Parts, Sizes, grid
from steer.errors import SteerError
from tests.tiny import TEXTS


def test_every_combination_is_tried_that_of_the_first_values_first() -> None:
    settings = grid([])
    assert len(settings) == len({json.dumps(each) for each in settings}) == 16
    assert settings[0] == {name: values[0] for name, values in VARIED.items()}
    assert grid(["lr=1e-3", "epochs=1", "rank=8,16"])[1] == {
        "lr": 0.001,
        "epochs": 1,
        "batch": VARIED["batch"][0],
        "rank": 16,
    }
    for wrong in ("lr=fast", "speed=1", "batch=0", "epochs"):
        with pytest.raises(SteerError, match=r"found the setting|no fit has the settings"):
            grid([wrong])


def test_what_is_read_was_never_fitted_on() -> None:
    texts = [f"Text {i}." for i in range(50)] * 2
    parts = Parts.draw("texts", texts, Sizes(30, 20))
    assert len({*parts.to_fit, *parts.unseen}) == 50
    assert parts == Parts.draw("texts", texts, Sizes(30, 20))
    assert Parts.draw("texts", texts, Sizes(10, 20)).unseen == parts.unseen
    with pytest.raises(SteerError, match="50 different texts, fewer than 30 to fit on and 21"):
        Parts.draw("texts", texts, Sizes(30, 21))


def test_a_search_goes_on_where_it_was_stopped(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, work = tmp_path / "texts.jsonl", tmp_path / "work"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    sizes = ["--texts", "40", "--unseen", "10", "--base", str(tiny_model)]
    arguments = ["--data", f"tiny={corpus}", "--work", str(work), *sizes]
    arguments += ["--settings", "lr=1e-3,1e-2", "epochs=1", "batch=8"]
    monkeypatch.setenv("COLUMNS", "200")
    assert fit_search.main(arguments) == 0
    told = capsys.readouterr().err
    assert "3 of 3: tiny, lr=0.01 epochs=1 batch=8" in told
    assert "lr=0.001 epochs=1 batch=8" in told and "no fit" in told
    lines = [json.loads(line) for line in (work / FILE).read_text().splitlines()]
    assert [line["setting"].get("lr") for line in lines] == [None, 0.001, 0.01]
    before, slow, fast = (line["loss"] for line in lines)
    assert before > slow > fast > 0
    assert all(line["tokens"] > 0 and line["seconds"] > 0 for line in lines[1:])
    assert len(lines[1]["held_out"]) == 2 and lines[1]["machine"]["dtype"]
    assert [path.name for path in work.iterdir()] == [FILE]

    whole = (work / FILE).read_text()
    first, second, _ = whole.splitlines(keepends=True)
    (work / FILE).write_text(first + second + '{"task": "ti')
    assert fit_search.main(arguments) == 0
    again = [json.loads(line) for line in (work / FILE).read_text().splitlines()]
    assert again[:2] == lines[:2] and again[2]["loss"] == pytest.approx(fast, abs=1e-3)
    assert "2 of 3" not in capsys.readouterr().err

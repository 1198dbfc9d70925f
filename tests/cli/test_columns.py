"""Records of columns by commands: fitted, evaluated, with their columns measured."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steer.cli.main import main
from steer.config import RunConfig
from steer.data.corpus import load_corpus
from steer.data.reading.settings import Reading
from steer.engines.interface import Completion
from steer.models.expert import Expert
from steer.runs.generation import generate
from tests import stub, tiny
from tests.evaluation.language import StubEmbedder
from tests.runs.test_columns import ShapedExpert

COLUMNS = ("why", "stars", "mood")
FAST = ("--epochs", "1", "--rank", "2", "--batch", "32")


@pytest.fixture
def real(tmp_path: Path) -> Path:
    draw = random.Random(0)
    rows = [
        {"why": text[:24], "stars": draw.randrange(5), "mood": draw.choice("ab"), "x": 1}
        for text in tiny.TEXTS[:60]
    ]
    path = tmp_path / "real.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_an_expert_is_fitted_on_the_columns_that_are_named(
    real: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "expert"
    command = ["fit", str(real), "--out", str(out), "--base", str(tiny_model), *FAST]
    command += ["--prompt", "A row:", "--columns", ",".join(COLUMNS)]
    assert main([*command, "--columns", "why,gone"]) == 2
    assert "no text column 'gone'" in capsys.readouterr().err
    assert main(command) == 0
    expert = Expert.load(out)
    assert expert.shape is not None and tuple(expert.shape.properties) == COLUMNS
    assert expert.shape.properties["stars"] == {"type": "integer", "minimum": 0, "maximum": 4}
    assert expert.shape.properties["mood"] == {"enum": ["a", "b"]}
    assert expert.rows == 60


class Liked(stub.StubEngine):
    """Writes the real rows with another text, and with the most stars in each."""

    def generate(self, requests: Any, sampling: Any, on_step: Any = None) -> list[Completion]:
        made = super().generate(requests, sampling, on_step)
        texts = [stub.sentence(random.Random(request.seed), 4) for request in requests]
        rows = [
            json.loads(self.real[place % len(self.real)]) | {"why": text, "stars": 4}
            for place, text in enumerate(texts)
        ]
        return [
            replace(each, text=f" {json.dumps(row)}", finish_reason="stop")
            for each, row in zip(made, rows, strict=True)
        ]


@pytest.fixture
def run(real: Path, tmp_path: Path) -> Path:
    corpus = load_corpus(real, reading=Reading(columns=COLUMNS))
    expert = ShapedExpert()
    expert.shape = corpus.shape

    generate(RunConfig(n=30, near=1.0), corpus, expert, Liked(corpus), tmp_path / "run")
    return tmp_path / "run"


def test_an_evaluation_has_a_figure_for_each_column(
    run: Path,
    real: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("steer.evaluation.evaluate.load_embedder", lambda *_: StubEmbedder())
    out = tmp_path / "table.json"
    assert main(["evaluate", str(run), "--real", str(real), "--full", "--json", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "stars: distance" in shown and "mood: share elsewhere" in shown
    stars, mood = json.loads(out.read_text("utf-8"))["marginals"]
    assert stars["rows"]["run"]["value"] > 1 > 3 * stars["rows"]["real"]["value"]
    assert mood["rows"]["run"]["value"] < 0.3

    one = tmp_path / "one.json"
    command = ["evaluate", str(run), "--real", str(real), "--text-column", "why"]
    assert main([*command, "--json", str(one)]) == 0
    assert "stars: distance" not in capsys.readouterr().out
    assert json.loads(one.read_text("utf-8"))["marginals"] == []

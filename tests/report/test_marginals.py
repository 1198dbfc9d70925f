"""Columns of records in a report: their bars beside the real records'."""

import json
from pathlib import Path

import numpy as np
import pytest

from steer.cli.main import main
from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.data.reading.settings import Reading
from steer.report.marginals import BINS, SHOWN, category_bars, number_bars
from steer.runs.generation import generate
from tests import stub
from tests.report.test_report import StubEmbedder, split
from tests.runs.test_columns import Echo, ShapedExpert

HOSTILE = "<a href=x>worst"
ROWS = [
    {"text": f"Ticket {n}", "n": n, "far": n / 8, "mood": "good" if n % 3 else HOSTILE}
    for n in range(40)
]


def as_is(text: str) -> str:
    return text


def test_whole_numbers_of_few_values_have_a_bar_each() -> None:
    bars = number_bars({"a": np.array([1.0, 1, 3, np.nan]), "real": np.array([1.0, 2, 2, 4])})
    assert bars.names == ("1", "2", "3", "4")
    assert bars.shares["a"].tolist() == [0.5, 0, 0.25, 0]
    assert bars.shares["real"].tolist() == [0.25, 0.5, 0, 0.25]
    assert bars.ticks == {0.0: "1", 1.0: "2", 3.0: "4"}


def test_other_numbers_share_bars_of_equal_width() -> None:
    bars = number_bars({"a": np.array([0.0, 10.0]), "real": np.linspace(0, 20, 200)})
    assert len(bars.names) == BINS and bars.names[0] == "0 to 1"
    assert bars.shares["a"].nonzero()[0].tolist() == [0, 10]
    assert bars.shares["real"].sum() == pytest.approx(1)
    assert bars.ticks == {-0.5: "0", 9.5: "10", 19.5: "20"}


@pytest.mark.parametrize("values", [[], [np.nan], [-1.7e308, 1.7e308]])
def test_numbers_that_cannot_be_drawn_are_left_out(values: list[float]) -> None:
    assert number_bars({"real": np.array(values)}).names == ()


def test_categories_are_in_the_order_of_the_real_ones_and_rare_ones_together() -> None:
    few = category_bars({"a": ["x", "y"], "real": ["y", "y", "z", "x"]}, as_is)
    assert few.names == ("y", "x", "z")
    assert few.shares["a"].tolist() == [0.5, 0.5, 0]
    assert few.ticks == {0.0: "y", 1.0: "x", 2.0: "z"}
    many = [f"{n:02}" for n in range(20) for _ in range(20 - n)]
    bars = category_bars({"a": ["19", "new"], "real": many}, str.upper)
    assert len(bars.names) == SHOWN + 1 and bars.names[-1] == "all others"
    assert bars.shares["a"].tolist() == [0.0] * SHOWN + [1.0]
    assert bars.shares["real"].sum() == pytest.approx(1)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of records of columns, and the real ones beside it."""
    monkeypatch.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
    monkeypatch.setattr("steer.report.features.FEW", 10_000)
    real = Corpus.of_rows(ROWS, Reading(columns=tuple(ROWS[0])))
    expert = ShapedExpert()
    expert.shape = real.shape
    generate(RunConfig(n=6, near=1.0), real, expert, Echo(real), tmp_path / "run")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "real.jsonl").write_text(lines, "utf-8")
    return tmp_path


@pytest.mark.parametrize("masked", [False, True])
def test_the_page_has_a_figure_for_each_column(made: Path, masked: bool) -> None:
    command = ["report", str(made / "run"), "--real", str(made / "real.jsonl")]
    out = made / "page.html"
    assert main([*command, "--out", str(out), "--mask" if masked else "--no-mask"]) == 0
    page, data = split(out.read_text("utf-8"))
    figures = {figure["title"]: figure for figure in data["figures"]["columns"]}
    assert list(figures) == ["n", "far", "mood"]
    assert page.count('data-kind="columns"') == 3 and 'href="#columns"' in page
    own, real = figures["n"]["data"]
    assert sum(own["y"]) == pytest.approx(1) and sum(real["y"]) == pytest.approx(1)
    shown = figures["mood"]["data"][0]["text"]
    assert shown == (
        ["g···", "&lt;· h···=·&gt;w····"] if masked else ["good", "&lt;a href=x&gt;worst"]
    )
    assert real["y"] == pytest.approx([0.05] * BINS, abs=0.03)


def test_runs_without_columns_have_no_such_part(tmp_path: Path, made: Path) -> None:
    real = stub.corpus()
    generate(RunConfig(n=5), real, stub.StubExpert(), stub.StubEngine(real), tmp_path / "plain")
    (tmp_path / "real.txt").write_text("\n".join(real.texts), "utf-8")
    command = ["report", str(tmp_path / "plain"), "--real", str(tmp_path / "real.txt")]
    assert main([*command, "--out", str(tmp_path / "page.html")]) == 0
    page, data = split((tmp_path / "page.html").read_text("utf-8"))
    assert data["figures"]["columns"] == [] and 'id="columns"' not in page

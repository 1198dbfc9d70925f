"""What the commands print when they are done."""

from pathlib import Path

import pytest

from steer.cli.evaluations import SIDE_BY_SIDE, sentence, show_evaluation
from steer.cli.tables import show_correction, show_run
from steer.config import RunConfig, Sampling, Sources
from steer.correction.outcome import Correction
from steer.evaluation.estimate import Estimate
from steer.evaluation.table import BRIEF, COLUMNS, Evaluation, Histogram, Row
from steer.report.tables import measure_tables
from steer.runs.overview import Overview
from steer.runs.store import Stream

TITLES = {column.key: column.title for column in COLUMNS}
VERDICT = "by the summary, a is ahead of b; 10 texts a row show differences from 0.12"


def evaluation(*names: str, **figures: Estimate) -> Evaluation:
    """A table of the sets `names` and real texts, alike in all figures: those given, and 0.5."""
    estimates = {column.key: figures.get(column.key, Estimate(0.5)) for column in COLUMNS}
    rows = tuple(Row(name, estimates) for name in (*names, "real"))
    notes = ("a note",)
    return Evaluation(rows, 10, "stub", {}, notes, ("judge",), (), VERDICT, Histogram((0, 1), {}))


def printed(found: Evaluation, capsys: pytest.CaptureFixture[str], full: bool = False) -> list[str]:
    show_evaluation(found, full)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]


@pytest.mark.parametrize("value", [8.257, 12.345678, 0.0381])
def test_the_terminal_and_the_page_show_the_same_figures(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluation("steer", **{key: Estimate(value, sd=value) for key in TITLES})
    page = {
        column["title"]: table.rows["steer"][place]
        for table in measure_tables(found.to_json())
        for place, column in enumerate(table.columns)
    }
    lines = [line.strip() for line in printed(found, capsys, full=True)]
    assert page.keys() == set(TITLES.values())
    for title, cell in page.items():
        shown = f" {cell.shown} {cell.spread.replace(' ', '')}"
        assert any(line.split("  ")[0] == title and shown in line for line in lines), title


def test_a_newcomer_reads_twelve_lines_and_what_they_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"set-{i}" for i in range(SIDE_BY_SIDE)]
    found = evaluation(*names, summary=Estimate(0.9312, 0.8888, 0.9712))
    lines = printed(found, capsys)
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("words: "))]
    assert len(table) <= 12
    rows = [line.strip().split("  ")[0] for line in table[-len(BRIEF) :]]
    assert rows == [TITLES[key] for key in BRIEF]
    assert table[-1].count("0.93 ±0.04") == len(names) + 1
    said = " ".join(lines[len(table) :])
    assert all(f"{TITLES[key]}: " in said for key in BRIEF)
    assert said.endswith(f"{sentence(VERDICT)} - a note")
    assert "0.12." in said


def test_of_many_sets_each_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"method-{i}:temperature=1.2" for i in range(SIDE_BY_SIDE + 1)]
    lines = [line.strip() for line in printed(evaluation(*names), capsys)]
    firsts = [line.split("  ")[0] for line in lines]
    assert [first for first in firsts if first in names] == names
    assert "nonsense" not in firsts
    assert lines[firsts.index("better")].endswith("higher")


def test_what_was_not_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    missing = Estimate(None, reason="no judge")
    found = evaluation("a", nonsense=missing, summary=missing, utility=missing)
    lines = {line.strip().split("  ")[0]: line for line in printed(found, capsys)}
    assert lines["nonsense"].count("not measured") == 2
    assert lines["summary"].count("none") == 2
    assert TITLES["utility"] not in lines


def test_a_verdict_becomes_a_sentence() -> None:
    assert sentence("by x, y") == "By x, y."
    assert sentence("") == ""


def test_a_correction_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_correction(
        Correction(
            candidates=600, accepted=200, exponent=0.86, effective=0.407, capped=0.1, before=0.7263
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "chosen: 200 of 600 candidates; effective sample size: 0.41 of the candidates; "
        "weights capped: 10.0%; exponent: 0.86; told from real, before: AUROC 0.726"
    ]


def test_settings_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A contrastive search chooses among so many candidates, and a run makes so many a record."""
    config = RunConfig(n=2, candidates=3, sampling=Sampling(penalty=0.4, candidates=7))
    names = {name: name for name, field in Sources.model_fields.items() if field.is_required()}
    run = Stream(tmp_path, "1", config, Sources(**names))
    show_run(Overview(run, {None: 0}, {}, (), None))
    pairs = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["candidates", "3"] in pairs
    assert ["sampling.candidates", "7"] in pairs

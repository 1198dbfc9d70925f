"""What the commands print when they are done."""

import pytest

from steer.cli.tables import show_correction, show_evaluation
from steer.correction.outcome import Correction
from steer.evaluation.estimate import Estimate
from steer.evaluation.table import COLUMNS, Evaluation, Histogram, Row
from steer.report.tables import measure_tables


def evaluation(value: float) -> Evaluation:
    """A table in which every figure of the methods is `value`."""
    rows = tuple(
        Row(name, {column.key: Estimate(value, sd=value) for column in COLUMNS})
        for name in ("steer", "real")
    )
    return Evaluation(rows, 10, "stub", {}, (), (), Histogram((0, 1), {}))


@pytest.mark.parametrize("value", [8.257, 12.345678, 0.0381])
def test_the_terminal_and_the_page_show_the_same_figures(
    value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    show_evaluation(evaluation(value))
    printed = capsys.readouterr().out
    page = {
        column["title"]: table.rows["steer"][place]
        for table in measure_tables(evaluation(value).to_json())
        for place, column in enumerate(table.columns)
    }
    lines = {line.strip().split("  ")[0]: line for line in printed.splitlines() if line.strip()}
    assert page.keys() == {column.title for column in COLUMNS}
    for title, cell in page.items():
        assert f" {cell.shown} {cell.spread.replace(' ', '')}" in lines[title], title


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

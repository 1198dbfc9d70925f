"""What the commands print when they are done."""

import pytest

from steer.cli.tables import show_evaluation
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

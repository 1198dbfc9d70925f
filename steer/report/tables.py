"""Tables of the evaluation: what is shown, what is best, and where each figure lies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer.evaluation.table import show
from steer.report.material import REAL

SUMMARY = "summary"
NONE = "\N{EN DASH}"
INTRODUCTIONS = {
    SUMMARY: "A score is about 1 for real texts; above 1 is possible, by chance or where sampling "
    "was kind. The last one is the harmonic mean of the others: one weak side pulls it down.",
    "fidelity": "Are the texts like the real ones? Detectors try to tell them apart by words and "
    "meaning.",
    "diversity": "Do the texts differ from one another as much as real ones do?",
    "coherence": "Do the texts make sense? A language model that wrote none of them judges.",
    "copying": "How much repeats the texts the expert was fitted on? This is copying, not privacy.",
    "utility": "Does a classifier trained on the synthetic texts work on real ones?",
    "length": "Many measures depend on length, so compare lengths first.",
}

_CLIPPED = (
    "Every score runs from 0 to 1, and the real texts score 1 or close to it. The last one is the "
    "harmonic mean of the others: one weak side pulls it down."
)

Estimates = Mapping[str, Any]
"""A row of the evaluation: its name, and an estimate under each column's key."""


@dataclass(frozen=True)
class Whisker:
    """Place of an estimate in its column, in percent of the column's range."""

    at: float
    low: float
    high: float
    real: float


@dataclass(frozen=True)
class Cell:
    """A cell of a table: `good` is what to sort by, best first; `spread` the interval or deviation,
    in words."""

    shown: str
    good: float | None
    spread: str = ""
    best: bool = False
    reason: str = ""
    whisker: Whisker | None = None


@dataclass(frozen=True)
class MeasureTable:
    """Table of one group: its columns, and the cells of each row in their order."""

    group: str
    introduction: str
    columns: tuple[Mapping[str, str], ...]
    rows: Mapping[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Headline:
    """A method that is ahead of all others by one score, by more than chance."""

    title: str
    name: str
    shown: str
    real: str


def measure_tables(evaluation: Mapping[str, Any]) -> list[MeasureTable]:
    """Makes a table for each group in which anything was measured, the summary first."""
    columns = evaluation["columns"]
    groups = list(dict.fromkeys(str(column["group"]) for column in columns))
    groups.sort(key=lambda group: group != SUMMARY)
    introductions = INTRODUCTIONS | ({SUMMARY: _CLIPPED} if is_clipped(evaluation) else {})
    tables = [
        _table(group, introductions.get(group, ""), columns, evaluation["rows"]) for group in groups
    ]
    return [table for table in tables if table.columns]


def is_clipped(evaluation: Mapping[str, Any]) -> bool:
    """Whether scores end at 1, as in the evaluations of older versions."""
    return "differences" not in evaluation


def verdict(evaluation: Mapping[str, Any]) -> str:
    """Sentence on which differences are more than chance; "" in older evaluations."""
    said = str(evaluation.get("verdict") or "")
    return f"{said[0].upper()}{said[1:]}." if said else ""


def headlines(evaluation: Mapping[str, Any]) -> list[Headline]:
    """Finds who is ahead of all others by each score of the summary, the overall score first.
    Where nobody is, or that is not known, there is no headline."""
    columns = [c for c in evaluation["columns"] if c["group"] == SUMMARY]
    columns.sort(key=lambda column: column["key"] != SUMMARY)
    apart = evaluation.get("differences", ())
    headings = (_headline(column, evaluation["rows"], apart) for column in columns)
    return [headline for headline in headings if headline]


def value_of(row: Estimates, key: str) -> float | None:
    """Looks up the measured value under `key`; None where there is none."""
    value = row.get(key, {}).get("value")
    return None if value is None else float(value)


def real_row(rows: Sequence[Estimates]) -> Estimates:
    """Finds the row of real texts, which is the ceiling; empty where it is missing."""
    return next((row for row in rows if row["name"] == REAL), {})


def goodness(aim: str, value: float, real: float | None) -> float:
    """Turns a value into one of which more is better, whatever the column's `aim` is."""
    if aim == "as real":
        return -abs(value - (real or 0.0))
    return -value if aim == "lower" else value


def best_names(column: Mapping[str, str], rows: Sequence[Estimates]) -> tuple[str, ...]:
    """Finds the best methods by a column; none where all are equal or only one was measured."""
    real = value_of(real_row(rows), column["key"])
    goods = {
        str(row["name"]): goodness(column["aim"], value, real)
        for row in rows
        if row["name"] != REAL and (value := value_of(row, column["key"])) is not None
    }
    if len(set(goods.values())) < 2:
        return ()
    return tuple(name for name, good in goods.items() if good == max(goods.values()))


def _table(
    group: str,
    introduction: str,
    columns: Sequence[Mapping[str, str]],
    rows: Sequence[Estimates],
) -> MeasureTable:
    measured = tuple(
        column
        for column in columns
        if column["group"] == group
        and any(value_of(row, column["key"]) is not None for row in rows)
    )
    by_column = [_column(column, rows) for column in measured]
    cells = {str(row["name"]): tuple(each[i] for each in by_column) for i, row in enumerate(rows)}
    return MeasureTable(group, introduction, measured, cells)


def _column(column: Mapping[str, str], rows: Sequence[Estimates]) -> list[Cell]:
    key = column["key"]
    best = best_names(column, rows)
    estimates = [row.get(key, {}) for row in rows]
    real = value_of(real_row(rows), key)
    bounds = [bound for estimate in estimates for bound in _bounds(estimate)]
    low, high = (min(bounds), max(bounds)) if bounds else (0.0, 0.0)
    return [
        Cell(
            NONE if estimate.get("value") is None else show(key, estimate["value"]),
            None
            if estimate.get("value") is None
            else goodness(column["aim"], estimate["value"], real),
            _spread(key, estimate),
            row["name"] in best,
            str(estimate.get("reason") or ""),
            _whisker(estimate, real, low, high),
        )
        for row, estimate in zip(rows, estimates, strict=True)
    ]


def _bounds(estimate: Mapping[str, Any]) -> Iterator[float]:
    """Gives the value and the ends of its interval, or of one standard deviation around it."""
    value, sd = estimate.get("value"), estimate.get("sd")
    if value is None:
        return
    yield float(value)
    low, high = estimate.get("low"), estimate.get("high")
    if low is not None and high is not None:
        yield from (float(low), float(high))
    elif sd is not None:
        yield from (float(value - sd), float(value + sd))


def _spread(key: str, estimate: Mapping[str, Any]) -> str:
    low, high, sd = (estimate.get(name) for name in ("low", "high", "sd"))
    if low is not None and high is not None:
        return f"{show(key, low)} to {show(key, high)}"
    return "" if sd is None else f"± {show(key, sd)}"


def _whisker(
    estimate: Mapping[str, Any], real: float | None, low: float, high: float
) -> Whisker | None:
    bounds = list(_bounds(estimate))
    if not bounds or real is None or high <= low:
        return None

    def percent(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    return Whisker(percent(bounds[0]), percent(min(bounds)), percent(max(bounds)), percent(real))


def _headline(
    column: Mapping[str, str], rows: Sequence[Estimates], differences: Sequence[Estimates]
) -> Headline | None:
    names, key = best_names(column, rows), column["key"]
    measured = [row for row in rows if row["name"] != REAL and value_of(row, key) is not None]
    best = [row for row in measured if row["name"] in names]
    others = [row for row in measured if row["name"] not in names]
    real = value_of(real_row(rows), key)
    if len(best) != 1 or not all(
        _is_ahead(column, best[0], other, real, differences) for other in others
    ):
        return None
    return Headline(
        "overall" if key == SUMMARY else column["title"],
        names[0],
        show(key, best[0][key]["value"]),
        "" if real is None else show(key, real),
    )


def _is_ahead(
    column: Mapping[str, str],
    best: Estimates,
    other: Estimates,
    real: float | None,
    differences: Sequence[Estimates],
) -> bool:
    """Whether the best of a column is ahead of another by more than chance: by their difference,
    which is paired, and where there is none by their intervals."""
    key, pair = column["key"], {best["name"], other["name"]}
    for each in differences:
        if each["key"] == key and {each["one"], each["other"]} == pair:
            return bool(each["low"] > 0 or each["high"] < 0)
    mine, theirs = (_good_bounds(column["aim"], row[key], real) for row in (best, other))
    return bool(mine and theirs and mine[0] > theirs[1])


def _good_bounds(
    aim: str, estimate: Mapping[str, Any], real: float | None
) -> tuple[float, float] | None:
    """Least and most that is good within an estimate's interval; None where there is none."""
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return None
    ends = sorted(goodness(aim, float(end), real) for end in (low, high))
    within = aim == "as real" and low <= (real or 0.0) <= high
    return ends[0], 0.0 if within else ends[1]

"""A run that gave up says why, and how to go on."""

from pathlib import Path

import pytest

from steer.config import RunConfig, Sampling
from steer.runs import advice
from steer.runs.records import Record, Reject
from steer.runs.store import Run
from tests.runs.test_store import SOURCES
from tests.stub import FIELDS


def ended(accepted: int, **rejected: int) -> Run:
    """A run of 20 records wanted with so many accepted, and rejected for each reason."""
    reasons = [name.replace("_", "-") for name, count in rejected.items() for _ in range(count)]
    config = RunConfig(n=20, max_attempts=40, sampling=Sampling(max_new_tokens=77))
    rejects = tuple(Reject(**FIELDS, reason=reason) for reason in reasons)  # type: ignore[arg-type]
    records = (Record(**FIELDS),) * accepted
    return Run(Path("run"), "1", config, SOURCES, records, rejects, 1)


@pytest.mark.parametrize(
    ("reason", "helps"),
    [
        ("unfinished", "77 tokens: in a new run give more --max-new-tokens"),
        ("unfinished", "never learned to stop, so fit one with more --epochs"),
        ("unparsed", "--pattern"),
        ("short", "--min-chars"),
        ("copy", "fewer --epochs"),
        ("near_copy", "--near 0.95"),
        ("duplicate", "--eta"),
        ("near_duplicate", "--near 0.95"),
    ],
)
def test_each_reason_names_the_option_that_helps(reason: str, helps: str) -> None:
    (said,) = advice.reasons(ended(3, **{reason: 17}))
    assert said.startswith("17 of 20 ") and helps in said


def test_rare_reasons_are_left_out_and_the_most_frequent_comes_first() -> None:
    said = advice.reasons(ended(10, short=1, copy=4, duplicate=15, surplus=10))
    assert [line.split()[0] for line in said] == ["15", "4"][: len(said)]
    assert not any("shorter" in line for line in said)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (ended(10, short=30), "--max-attempts 90"),
        (ended(19, surplus=1, copy=20), "--max-attempts 43"),
        (ended(0, copy=40), "None passed"),
    ],
)
def test_going_on(run: Run, says: str) -> None:
    assert says in advice.going_on(run)

import json

import pytest

from steer.data.tasks import Task
from steer.runs.records import STREAMS, Checker, Record, Reject, finite_log_probs, read_attempt
from tests.stub import FIELDS

REAL = ["The moon pulls the sea twice a day.", "Stars twinkle because the air is moving."]


@pytest.mark.parametrize(
    "attempt",
    [
        Record(**FIELDS),
        Reject(**FIELDS, reason="near-copy", of="real:1"),
        Reject(**FIELDS, reason="short"),
    ],
)
def test_json_and_back(attempt: Record | Reject) -> None:
    back = read_attempt(json.dumps(attempt.to_json(), allow_nan=False).encode())
    assert back == attempt
    assert type(back) is type(attempt)


def test_missing_and_unknown_fields_are_errors() -> None:
    values = Record(**FIELDS).to_json()
    with pytest.raises(ValueError, match="colour is 'red'"):
        read_attempt(json.dumps(values | {"colour": "red"}).encode())
    del values["seed"]
    with pytest.raises(ValueError, match="seed"):
        read_attempt(json.dumps(values).encode())


def test_infinite_log_probs_are_null() -> None:
    found = finite_log_probs({"expert": -1.0, "negative": float("-inf")})
    assert {name: value for name, value in found.items() if value is not None} == {"expert": -1.0}
    assert set(found) == set(STREAMS)


@pytest.mark.parametrize(
    ("completion", "finish", "expected"),
    [
        (" The tides of  Mars\nare weak.", "stop", ("The tides of Mars are weak.", None, None)),
        (" The tides of Mars", "length", ("The tides of Mars", "unfinished", None)),
        ("", "length", ("", "unfinished", None)),
        (" \n ", "stop", ("", "unparsed", None)),
        ("No full stop here", "stop", ("No full stop here", "unparsed", None)),
        (" Too few.", "stop", ("Too few.", "short", None)),
        (
            " the MOON pulls the sea twice a day.",
            "stop",
            ("the MOON pulls the sea twice a day.", "copy", "real:0"),
        ),
        (
            " The moon pulls the sea twice a days.",
            "stop",
            ("The moon pulls the sea twice a days.", "near-copy", "real:0"),
        ),
        (" Kept before by this run.", "stop", ("Kept before by this run.", "duplicate", "rec:7")),
        (
            " Kept before by this runs.",
            "stop",
            ("Kept before by this runs.", "near-duplicate", "rec:7"),
        ),
    ],
)
def test_verdicts(
    completion: str, finish: str, expected: tuple[str, str | None, str | None]
) -> None:
    checker = Checker(Task("Write:", pattern=r".*\."), REAL)
    checker.keep("rec:7", "Kept before by this run.")
    assert tuple(checker.check(completion, finish)) == expected


def test_only_kept_texts_count() -> None:
    checker = Checker(Task("Write:"), REAL)
    assert checker.check(" A text of its own.", "stop").reason is None
    assert checker.check(" A text of its own.", "stop").reason is None
    checker.keep("rec:0", "A text of its own.")
    assert checker.check(" A text of its own.", "stop").reason == "duplicate"

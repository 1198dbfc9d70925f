"""A pattern ends in time, whatever it is; what cannot be matched is refused in one line."""

import pytest

from steer.data import patterns
from steer.data.patterns import check_pattern, matches
from steer.data.tasks import Task
from steer.errors import SteerError

EXPONENTIAL = [
    (r"(a+)+$", "a" * 40 + "b"),
    (r"(a|a)*b", "a" * 40 + "c"),
    (r"(.*)*x", "y" * 2000),
    (r"(?:a{0,6000}){0,6000}b", "a" * 500),
    (r"(\w+\s?)*\.", "word " * 40 + "!"),
]


@pytest.mark.parametrize(("pattern", "text"), EXPONENTIAL)
def test_the_usual_traps_end(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"\w+", "é漢字", True),
        (r"(?i)[a-z ]+\.", "A Line.", True),
        (r"[A-Z].*[.!?]", "One line.\nAnother.", False),
        (r"(?s)[A-Z].*[.!?]", "One line.\nAnother.", True),
        (r"(\w+) \1", "same same", True),
        (r"a", "ab", False),
    ],
)
def test_the_language_is_that_of_re(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern, text) is found


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    with pytest.raises(SteerError, match=r"for a text of 61 characters.*--pattern"):
        matches(r"(a|aa)+", "a" * 60 + "b")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("[", "no regular expression"),
        ("a{1000000000000}", "no regular expression"),
        ("\\U99999999", "no regular expression"),
        ("(?R)", "no regular expression"),
        ("(" * 2000 + ")" * 2000, "nested too deeply"),
        ("a" * 10_001, "at most 10000"),
        ("\\p{L}+", "no regular expression"),
    ],
)
def test_what_is_no_pattern_is_one_line(pattern: str, message: str) -> None:
    with pytest.raises(SteerError, match=message) as raised:
        check_pattern(pattern)
    assert "\n" not in str(raised.value)
    with pytest.raises(SteerError, match=message):
        Task("Write:", pattern=pattern)

"""White space is kept as the real texts have it, or as a task asks."""

from typing import Any

import pytest

from steer.data.tasks import Task
from steer.data.whitespace import found_in, kept
from steer.runs.records import Checker

FUNCTION = "    def double(x):\n        # twice\n\n        return 2 * x\n"


@pytest.mark.parametrize(
    ("text", "line", "single"),
    [
        ("one two", "one two", "one two"),
        ("a  b\tc", "a  b\tc", "a b c"),
        (" a \n  b\r\n\r\nc\n", " a b c", "a b c"),
        ("\n  a\u2028b\u3000c\n ", "a b\u3000c", "a b c"),
        ("    def f():\n\n        return\n", "    def f(): return", "def f(): return"),
    ],
)
def test_forms(text: str, line: str, single: str) -> None:
    assert kept(text, "exact") == text
    assert kept(text, "line") == line
    assert kept(text, "single") == single


@pytest.mark.parametrize(
    ("texts", "form"),
    [
        (["a b", "c"], "single"),
        (["a b", " c"], "line"),
        (["a\tb"], "line"),
        (["a  b", "c\nd"], "exact"),
        (["a\n"], "exact"),
        ([], "single"),
    ],
)
def test_the_form_of_real_texts_changes_none(texts: list[str], form: str) -> None:
    task = Task("Write:").suited_to(texts)
    assert found_in(texts) == task.whitespace == form
    assert [task.completion(text) for text in texts] == [f" {text}" for text in texts]


@pytest.mark.parametrize("prompt", ["Write:", "Write:\n"])
def test_a_text_of_several_lines_comes_back_as_it_was_trained_on(prompt: str) -> None:
    task = Task(prompt, pattern=r"(?s) *def .+", whitespace="exact")
    assert task.parse(task.completion(FUNCTION)) == FUNCTION
    assert Checker(task, []).check(task.completion(FUNCTION), "stop").text == FUNCTION
    assert task.parse(task.completion(" \n ")) is None


def test_a_task_may_ask_for_one_line() -> None:
    task = Task("Write:", whitespace="line").suited_to([FUNCTION])
    assert task.completion(FUNCTION) == " " + kept(FUNCTION, "line")
    assert task.parse(" a\n b\n") == "a b"


def test_a_question_has_single_spaces() -> None:
    assert Task("Ask:", form="question").suited_to([FUNCTION]).whitespace == "single"


def test_an_expert_of_an_earlier_version_reads_records_as_it_did() -> None:
    old = Task("Write:")  # its card says nothing of white space
    assert old.parse("  a\n\n b\t c ") == "a b c"
    assert old.completion("a\n b") == " a\n b"


@pytest.mark.parametrize("value", ["lines", "", 1])
def test_an_unknown_form(value: Any) -> None:
    with pytest.raises(Exception, match="choose one of exact, line, single"):
        Task("Write:", whitespace=value)

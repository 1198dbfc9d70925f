from typing import Any

import pytest

from steer.data.tasks import Task
from steer.errors import SteerError


def test_prompt_without_labels_is_rendered_as_it_is() -> None:
    assert Task("Write {json} in {}:").render() == "Write {json} in {}:"


def test_placeholder_is_replaced_everywhere_and_other_braces_stay() -> None:
    task = Task("A {label} {x}, so {label}:", labels=("good", "{bad}"))
    assert task.render("good") == "A good {x}, so good:"
    assert task.render("{bad}") == "A {bad} {x}, so {bad}:"


@pytest.mark.parametrize(
    ("prompt", "labels", "found"),
    [
        ("Write:", ("a", "b"), "no {label}"),
        ("Write {label}:", (), "have no labels"),
        ("", (), "empty"),
        (" \n", (), "empty"),
        ("Write {Label}:", ("a",), "no {label}"),
    ],
)
def test_prompt_and_labels_must_fit(prompt: str, labels: tuple[str, ...], found: str) -> None:
    with pytest.raises(SteerError, match=found.replace("{", r"\{")) as error:
        Task(prompt, labels)
    assert "\n" not in str(error.value)


def test_a_missing_or_unknown_label_is_named() -> None:
    task = Task("A {label} one:", labels=("a", "b"))
    with pytest.raises(SteerError, match="choose one of 'a', 'b'"):
        task.render()
    with pytest.raises(SteerError, match="unknown label 'c'; the labels are 'a', 'b'"):
        task.render("c")
    with pytest.raises(SteerError, match="there are none"):
        Task("Write:").render("a")


def test_many_labels_are_not_all_listed() -> None:
    with pytest.raises(SteerError, match="'9' and 90 more"):
        Task("Write:", labels=tuple(str(number) for number in range(100)))


@pytest.mark.parametrize(
    ("completion", "record"),
    [
        (" Why?\n", "Why?"),
        ("a\n\n b\t c\u00a0d", "a b c d"),
        ("", None),
        (" \n\t", None),
        ("\u200b\ufeff", None),  # nothing that can be seen
        ("a\x1b[31m b", None),  # what no reader takes back
        ("a\0b", None),
    ],
)
def test_a_record_is_one_line(completion: str, record: str | None) -> None:
    assert Task("Write:").parse(completion) == record


def test_the_pattern_must_match_the_whole_record() -> None:
    task = Task("Write:", pattern=r".+\?|.+!")
    assert task.parse(" Why?\n") == "Why?"
    assert task.parse("Why? So.") is None
    assert task.parse("Why") is None


def test_a_broken_pattern_is_a_clear_error() -> None:
    with pytest.raises(SteerError, match=r"pattern '\(' is no regular expression"):
        Task("Write:", pattern="(")


@pytest.mark.parametrize(
    ("prompt", "completion"), [("Q:", " Why?"), ("Q: ", "Why?"), ("Q:\n", "Why?")]
)
def test_one_space_between_prompt_and_text(prompt: str, completion: str) -> None:
    assert Task(prompt).completion("Why?") == completion


QUESTION = "Where is milk? A. shelf B. fridge C. car D. sea E. desk Answer: B"


def test_a_question_must_be_well_formed() -> None:
    task = Task("Ask:", form="question")
    assert task.parse(QUESTION.replace(" ", "\n ")) == QUESTION
    assert task.parse(QUESTION.replace("car", "sea")) is None
    assert task.parse("Where is milk?") is None
    assert Task("Ask:").parse("Where is milk?") == "Where is milk?"
    assert Task("Ask:", form="question", pattern="Why.*").parse(QUESTION) is None


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ({"form": "poem"}, "form is 'poem': choose one of text, question"),
        ({"min_chars": -1}, "min_chars is -1; give at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give at least 1"),
    ],
)
def test_fields_out_of_range(field: dict[str, Any], found: str) -> None:
    with pytest.raises(SteerError, match=found):
        Task("Write:", **field)

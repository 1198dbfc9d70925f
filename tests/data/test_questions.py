import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer.data.questions import (
    GRAMMAR,
    LETTERS,
    Question,
    answer_balance,
    parse_question,
    render_question,
)
from steer.shapes import Shape

LINE = "Where do you keep milk? A. shelf B. fridge C. car D. the sea E. desk Answer: B"
QUESTION = Question(
    "Where do you keep milk?", ("shelf", "fridge", "car", "the sea", "desk"), answer="B"
)


def test_a_line_is_read_and_written() -> None:
    assert parse_question(LINE) == QUESTION
    assert render_question(QUESTION) == LINE


def test_white_space_does_not_matter() -> None:
    assert parse_question("\n " + LINE.replace(" ", " \n\t") + "\n") == QUESTION


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
    lambda text: " ".join(text.split())
)
no_marks = words.filter(lambda text: text and not re.search(r"(^| )([A-F]\.|Answer:)($| )", text))


@given(
    no_marks,
    st.lists(no_marks, min_size=5, max_size=5, unique_by=str.casefold),
    st.sampled_from(LETTERS),
)
def test_what_is_written_is_read_back(question: str, options: list[str], answer: str) -> None:
    made = Question(question, tuple(options), answer)
    assert parse_question(render_question(made)) == made


@given(st.lists(st.sampled_from([*"ABCDE", "A.", "B.", "C.", "D.", "E.", "F.", "Answer:", "x"])))
def test_whatever_is_read_is_written_as_it_was(tokens: list[str]) -> None:
    line = " ".join(tokens)
    found = parse_question(line)
    assert found is None or render_question(found) == line


@given(st.lists(st.sampled_from([*"xyé", "A.", "F.", "B.", "Answer:"]), min_size=1).map(" ".join))
def test_what_the_grammar_allows_is_read_but_for_options_that_are_alike(text: str) -> None:
    shape = Shape("grammar", GRAMMAR)
    for line in (LINE.replace("shelf", text), LINE.replace("desk", text), f"{text} {LINE}", text):
        assert shape.fits(line) == (parse_question(line) is not None)
    assert shape.fits(LINE.replace("fridge", "shelf"))


BROKEN = {
    "no text": "",
    "no options": "Where do you keep milk?",
    "no question": LINE.removeprefix(QUESTION.question),
    "four options": LINE.replace(" E. desk", ""),
    "six options": LINE.replace(" Answer", " F. roof Answer"),
    "an empty option": LINE.replace("car ", ""),
    "equal options": LINE.replace("car", "shelf"),
    "equal but for case and space": LINE.replace("car", " The  SEA"),
    "another order": LINE.replace("C. car D. the sea", "D. the sea C. car"),
    "a letter twice": LINE.replace("car", "car A. van"),
    "a letter in the question": "Is A. right? " + LINE.split("? ")[1],
    "no answer": LINE[: LINE.index(" Answer")],
    "an empty answer": LINE[:-1],
    "an unknown answer": LINE[:-1] + "F",
    "a small letter": LINE[:-1] + "b",
    "two answers": LINE + " Answer: C",
    "two letters": LINE[:-1] + "AB",
    "the answer in words": LINE[:-1] + "fridge",
    "a full stop at the end": LINE + ".",
    "a second question": LINE + " Where do you keep eggs?",
    "other brackets": LINE.replace(". ", ") "),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_anything_else_is_none(text: str) -> None:
    assert text != LINE
    assert parse_question(text) is None


@pytest.mark.parametrize("name", ["Robert F. Kennedy", "Samuel L. Jackson", "the U.S.A. team"])
def test_initials_are_no_options(name: str) -> None:
    found = parse_question(LINE.replace("you", name))
    assert found is not None
    assert name in found.question


def test_balance_is_the_share_of_each_letter() -> None:
    questions = [Question("?", QUESTION.options, answer) for answer in "AABE"]
    assert answer_balance(questions) == {"A": 0.5, "B": 0.25, "C": 0, "D": 0, "E": 0.25}
    assert answer_balance([]) == dict.fromkeys(LETTERS, 0)

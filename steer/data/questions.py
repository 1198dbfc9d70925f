"""Multiple-choice questions: five options, one answer, written on one line."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

LETTERS = "ABCDE"

GRAMMAR = """\
start: QUESTION
QUESTION: TEXT " A. " TEXT " B. " TEXT " C. " TEXT " D. " TEXT " E. " LAST " Answer: " /[A-E]/
TEXT: WORD (" " WORD)*
LAST: OTHER (" " OTHER)*
WORD: /\\S+/ & ~/[A-E]\\.|Answer:/
OTHER: WORD & ~/F\\./
"""
"""The questions that `parse_question` reads, in Lark; their options may be alike, though."""

_ANSWER = "Answer:"
_MARK = re.compile(rf"(?<!\S)([{LETTERS}]\.|{_ANSWER})(?!\S)")
_MARKS = [*(f"{letter}." for letter in LETTERS), _ANSWER]


@dataclass(frozen=True)
class Question:
    """A multiple-choice question: `options` are those for A to E, in that order; `answer` is the
    right one's letter."""

    question: str
    options: tuple[str, ...]
    answer: str


def parse_question(text: str) -> Question | None:
    """Reads the question in a text such as "Why? A. x B. y C. z D. v E. w Answer: C", or None.

    None unless there is a question, five different options (case and white space do not make a
    difference) and one answer letter, with nothing after it. A text in which one of the marks
    "A." to "E." or "Answer:" stands alone a second time can be read in two ways: None, too.
    """
    line = " ".join(text.split())
    if _MARK.findall(line) != _MARKS:
        return None
    parts = [part.strip() for part in _MARK.split(line)[::2]]
    question, options, answer = parts[0], tuple(parts[1:-1]), parts[-1]
    distinct = len({option.casefold() for option in options}) == len(LETTERS)
    sixth = "F." in options[-1].split()
    if not all(parts) or not distinct or sixth or answer not in tuple(LETTERS):
        return None
    return Question(question, options, answer)


def render_question(question: Question) -> str:
    """Writes the question on one line; `parse_question` reads it back."""
    options = (f"{letter}. {text}" for letter, text in zip(LETTERS, question.options, strict=True))
    line = " ".join((question.question, *options, _ANSWER, question.answer))
    return " ".join(line.split())


def answer_balance(questions: Iterable[Question]) -> dict[str, float]:
    """Computes the share of each answer letter, A to E; all are 0 when there are no questions."""
    counts = Counter(question.answer for question in questions)
    total = max(1, counts.total())
    return {letter: counts[letter] / total for letter in LETTERS}

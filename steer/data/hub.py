"""Real texts of a task from the Hugging Face hub: how a row becomes a text."""

from collections import Counter
from typing import Any

from steer.data.corpus import Corpus
from steer.data.labels import spell
from steer.data.questions import LETTERS, Question, render_question
from steer.data.table import Table, read_hub
from steer.data.tasks import Hub
from steer.data.whitespace import Whitespace, kept
from steer.errors import SteerError


def load_hub(hub: Hub, whitespace: Whitespace = "single") -> Corpus:
    """Loads the texts with so much of their white space, and their labels if there is a column of
    them.

    Raises `SteerError` when the dataset cannot be had, or a row has no text, not five options
    and their answer, or a label without a name.
    """
    try:
        table = read_hub(hub.dataset, hub.split, hub.config, hub.columns)
    except SteerError as error:
        raise SteerError(f"{error}; or give the real texts as a file") from None
    texts = _questions(table, hub) if hub.options else table.strings(hub.text, "text")
    lines = [kept(text, whitespace) for text in texts]
    labels = _labels(table, hub) if hub.label else None
    rows = _chosen(lines, labels, hub)
    if not rows:
        raise SteerError(f"{table.source} has no text of the wanted length; see hub.min_chars")
    chosen = tuple(labels[row] for row in rows) if labels else None
    return Corpus(tuple(lines[row] for row in rows), chosen, table.source)


def _chosen(lines: list[str], labels: list[str] | None, hub: Hub) -> list[int]:
    """Chooses rows of the wanted length, at most `hub.most` of each label."""
    taken: Counter[str | None] = Counter()
    rows = []
    for row, line in enumerate(lines):
        label = labels[row] if labels else None
        fits = hub.min_chars <= len(line) <= (hub.max_chars or len(line))
        if fits and (hub.most is None or taken[label] < hub.most):
            taken[label] += 1
            rows.append(row)
    return rows


def _labels(table: Table, hub: Hub) -> list[str]:
    names = {spell(value): name for value, name in hub.names.items()}
    values = table.column(str(hub.label), "label")
    for row, value in enumerate(values):
        if spell(value) is None or (names and spell(value) not in names):
            raise SteerError(
                f"{table.where(row)} has the label {value!r}, which hub.names has no name for; "
                "name it, or choose another split"
            )
    return [names.get(spell(value), str(spell(value))) for value in values]


def _questions(table: Table, hub: Hub) -> list[str]:
    questions = table.strings(hub.text, "text")
    answers = table.strings(str(hub.answer), "answer")
    options = table.column(str(hub.options), "options")
    return [
        render_question(Question(question, _options(table, row, options[row], answer), answer))
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]


def _options(table: Table, row: int, options: Any, answer: str) -> tuple[str, ...]:
    """Sorts the options for A to E in that order, whatever order the dataset has them in."""
    try:
        pairs = sorted(zip(options["label"], options["text"], strict=True))
    except (TypeError, KeyError, ValueError):
        pairs = []
    if [letter for letter, _ in pairs] != list(LETTERS) or answer not in tuple(LETTERS):
        raise SteerError(
            f"{table.where(row)} has no five options A to E with the answer's letter "
            f"(its answer: {answer!r}); choose another split or dataset"
        )
    return tuple(text for _, text in pairs)

"""Tasks: the prompt, its labels, and the form of a record."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pydantic import Field, model_validator

from steer.config import Config
from steer.data.characters import find_control, is_blank
from steer.data.patterns import check_pattern, matches
from steer.data.questions import parse_question
from steer.data.whitespace import Whitespace, found_in, kept
from steer.errors import SteerError
from steer.shapes import Shape, spoken

PLACEHOLDER = "{label}"
CHAT = "{chat}"
"""Stands in a prompt for what was said before the text, in the base model's chat template."""

Form = Literal["text", "question"]


class Hub(Config):
    """Place of a task's real texts on the Hugging Face hub: a dataset and its columns.

    `text` is the column of the texts. For multiple-choice questions it is the column of the
    questions, `options` that of the options, each {"label": ["A", ...], "text": [...]}, and
    `answer` that of the answer letters. `label` is the column of the labels, and `names` what
    its values are called. Texts have single spaces unless the task keeps more; those shorter than
    `min_chars` or longer than `max_chars` are left out, and of those with the same label the first
    `most` are taken.
    """

    dataset: str
    config: str | None = None
    split: str = "train"
    text: str = "text"
    options: str | None = None
    answer: str | None = None
    label: str | None = None
    names: dict[str | int, str] = Field(default_factory=dict)
    min_chars: int = Field(1, ge=1)
    max_chars: int | None = Field(None, ge=1)
    most: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Hub":
        if (self.options is None) != (self.answer is None):
            raise SteerError("hub has one of options and answer; name both columns, or neither")
        return self

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are read."""
        named = (self.text, self.options, self.answer, self.label)
        return [name for name in named if name is not None]


@dataclass(frozen=True)
class Task:
    """A task to write for: a prompt, or a prompt template with `{label}` when there are labels, and
    with `{chat}` when the texts are answers in chats.

    `pattern` is a regular expression that a whole record must match; records shorter than
    `min_chars` characters are too short to keep. A record of the form "question" must be one that
    `steer.data.questions.parse_question` reads. `whitespace` is how much white space a text keeps,
    in fitting and in records: "exact", "line" (on one line) or "single" (single spaces); None means
    as the real texts have it (`suited_to`; questions: single). A whole record has the `shape`, if
    there is one, and decoding is held to it (docs/structure.md). `max_new_tokens` is the longest
    completion (None: as long as the longest real text) and `hub` where the real texts are when no
    file is given.
    Raises `SteerError` for a blank prompt, a placeholder and labels that do not go together, an
    unknown form or white space, an invalid pattern or a number out of range.
    """

    prompt: str
    labels: tuple[str, ...] = ()
    pattern: str | None = None
    min_chars: int = 10
    form: Form = "text"
    name: str | None = None
    max_new_tokens: int | None = None
    hub: Hub | None = None
    whitespace: Whitespace | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        _check_prompt(self.prompt, self.labels)
        if self.form not in get_args(Form):
            raise SteerError(f"form is {self.form!r}: choose one of {', '.join(get_args(Form))}")
        if self.whitespace not in (None, *get_args(Whitespace)):
            known = ", ".join(get_args(Whitespace))
            raise SteerError(f"whitespace is {self.whitespace!r}: choose one of {known}")
        if self.pattern is not None:
            check_pattern(self.pattern)
        _check_least("min_chars", self.min_chars, 0)
        if self.max_new_tokens is not None:
            _check_least("max_new_tokens", self.max_new_tokens, 1)

    @property
    def chats(self) -> bool:
        """Whether texts are answers, each with a prompt of its own."""
        return CHAT in self.prompt

    def render(self, label: str | None = None, chat: str | None = None) -> str:
        """Renders the prompt for `label` and what was said before, `chat`; other braces stay as
        they are. Raises `SteerError` where one of them is needed, or the label is unknown."""
        if chat is None and self.chats:
            raise SteerError(
                f"the prompt {self.prompt!r} stands for a chat and there is none here; an expert "
                "of chats makes them with steer generate, compare, sweep and tune"
            )
        if label is None and not self.labels:
            return self.prompt if chat is None else self.prompt.replace(CHAT, chat)
        if label is None:
            first = f"--label {self.labels[0]}=100"
            raise SteerError(f"a label is needed: choose one of {_names(self.labels)}, as {first}")
        if label not in self.labels:
            known = f"the labels are {_names(self.labels)}" if self.labels else "there are none"
            raise SteerError(f"unknown label {label!r}; {known}")
        return self.prompt.replace(PLACEHOLDER, label).replace(CHAT, chat or "")

    def completion(self, text: str) -> str:
        """Completion of a text: what follows the prompt in training, before the end of text.

        Most tokenizers make a space part of the word after it, so a prompt that does not end
        in whitespace is followed by one.
        """
        text = kept(text, self.whitespace or "exact")
        return f" {text}" if self._spaced else text

    @property
    def _spaced(self) -> bool:
        """Whether a space comes before a text. After a chat none does: its template ends with what
        comes before an answer."""
        return not (self.prompt[-1].isspace() or self.prompt.endswith(CHAT))

    def suited_to(self, texts: Iterable[str]) -> "Task":
        """Settles the white space where the task leaves it open: questions have single spaces,
        records with a shape are exact, and others have as much as the texts do."""
        if self.whitespace is not None:
            return self
        if self.form == "question":
            return replace(self, whitespace="single")
        return replace(self, whitespace="exact" if self.shape else found_in(texts))

    @property
    def completion_shape(self) -> Shape | None:
        """Shape of a completion: of what stands before the record, and the record."""
        return replace(self.shape, lead=self.completion("")) if self.shape else None

    def compared(self, record: str) -> str:
        """What of a record is compared with others: of an object, its values."""
        return spoken(record) if self.shape and self.shape.kind == "schema" else record

    def record(self, completion: str) -> str:
        """Reads the text in a completion, well formed or not, with the white space that is kept;
        single spaces where the task leaves it open."""
        if self.whitespace in ("exact", "line") and self._spaced:
            completion = completion.removeprefix(" ")  # what `completion` put before it
        return kept(completion, self.whitespace or "single")

    def parse(self, completion: str) -> str | None:
        """Reads the record in a completion, as `record` does.

        None when nothing of it can be seen, when it holds control characters (no reader takes such
        a text), when it is against the pattern, or not of the task's form and shape.
        """
        record = self.record(completion)
        if is_blank(record) or find_control(record):
            return None
        if self.pattern and not matches(self.pattern, record):
            return None
        if self.form == "question" and parse_question(record) is None:
            return None
        return record if self.shape is None or self.shape.fits(record) else None


def _check_prompt(prompt: str, labels: tuple[str, ...]) -> None:
    if not prompt.strip():
        raise SteerError("the prompt is empty; say in a line what a record is")
    if labels and PLACEHOLDER not in prompt:
        raise SteerError(
            f"the texts have labels ({_names(labels)}) but the prompt has no {PLACEHOLDER}; "
            f"write {PLACEHOLDER} where the label belongs in --prompt, or leave --label-column out"
        )
    if not labels and PLACEHOLDER in prompt:
        raise SteerError(
            f"the prompt has {PLACEHOLDER} but the texts have no labels; "
            "name the --label-column (or a task's labels), or take the placeholder out"
        )


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SteerError(f"{name} is {value}; give at least {least}")


def _names(labels: tuple[str, ...]) -> str:
    """Lists the labels for a message; the first ten when there are many."""
    shown = ", ".join(repr(label) for label in labels[:10])
    return shown if len(labels) <= 10 else f"{shown} and {len(labels) - 10} more"

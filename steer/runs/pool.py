"""The pool of examples to move away from, and the panels drawn from it."""

import heapq
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steer.config import PanelForm
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.guidance import Shown
from steer.runs.records import Record
from steer.seeds import derive

SKETCHED = 10_000
"""Examples of a label that panels are chosen from by their embeddings, at most."""


@dataclass(frozen=True, slots=True)
class Example:
    """A member of the pool: its id ("real:17", "rec:123"), its text, and the prompt that it answers
    where texts have prompts of their own."""

    id: str
    text: str
    prompt: str | None = None


class Pool:
    """The real texts and the records accepted so far, in the order they came.

    With `labelled`, the examples for a label are those that have it; otherwise all of them.
    `prompts` are those of the real texts, where each has its own.
    """

    def __init__(self, real: Corpus, labelled: bool, prompts: Sequence[str] | None = None) -> None:
        self._labelled, self._prompted = labelled, prompts is not None
        self._examples: defaultdict[str | None, list[Example]] = defaultdict(list)
        self._sketches: dict[tuple[int, str | None], _Sketch] = {}
        labels = real.labels or (None,) * len(real.texts)
        own: Sequence[str | None] = prompts or (None,) * len(real.texts)
        for row, (text, label, prompt) in enumerate(zip(real.texts, labels, own, strict=True)):
            self._add(Example(f"real:{row}", text, prompt), label)

    def add(self, records: Iterable[Record]) -> None:
        """Adds accepted records, once their round is committed."""
        for record in records:
            prompt = record.prompt if self._prompted else None
            self._add(Example(record.id, record.text, prompt), record.label)

    def sizes(self, labels: Iterable[str | None]) -> dict[str | None, int]:
        """Counts the examples there are now for each label; given to `examples`, they give the pool
        as it was."""
        return {label: len(self._of(label)) for label in labels}

    def examples(self, label: str | None) -> Sequence[Example]:
        """Lists the examples a panel for `label` is drawn from."""
        return self._of(label)

    def sketch(self, label: str | None, seed: int, known: int | None = None) -> Sequence[Example]:
        """Lists `SKETCHED` of the first `known` examples for a label, or of all, in their order.

        A fixed sample: those with the lowest hash under the run's `seed`, so that it depends on
        nothing else, and hardly changes as the pool grows.
        """
        examples = self._of(label)
        known = len(examples) if known is None else known
        if known <= SKETCHED:
            return examples[:known]
        key = seed, label if self._labelled else None
        if key not in self._sketches or self._sketches[key].seen > known:
            self._sketches[key] = _Sketch(seed)
        return [examples[row] for row in self._sketches[key].rows(examples, known)]

    def sample(
        self, label: str | None, size: int, draw: random.Random, known: int | None = None
    ) -> tuple[Example, ...]:
        """Samples `size` different ones of the examples for a label."""
        examples = self._of(label)
        # Numbers are drawn: a copy of the first examples would take time and memory each time.
        rows = range(len(examples) if known is None else known)
        return tuple(examples[row] for row in draw.sample(rows, size))

    def require(self, size: int, labels: Iterable[str | None]) -> None:
        """Raises `SteerError` unless there are `size` examples for every label."""
        for label, held in self.sizes(labels).items():
            if held < size:
                which = f" with the label {label!r}" if self._labelled else ""
                raise SteerError(
                    f"a panel needs {size} real texts{which} but there are {held}; "
                    "give more, or a smaller --panel-size, or --eta 0"
                )

    def _of(self, label: str | None) -> list[Example]:
        return self._examples[label if self._labelled else None]

    def _add(self, example: Example, label: str | None) -> None:
        self._of(label).append(example)


class _Sketch:
    """Numbers of the examples with the lowest hashes among the first `seen`, the highest of them
    first out (bottom-k sampling)."""

    def __init__(self, seed: int) -> None:
        self._seed, self.seen = seed, 0
        self._kept: list[tuple[int, int]] = []  # (-hash, number), a heap

    def rows(self, examples: Sequence[Example], known: int) -> list[int]:
        for row in range(self.seen, known):
            entry = (-derive(self._seed, "sketch", examples[row].id), row)
            if len(self._kept) < SKETCHED:
                heapq.heappush(self._kept, entry)
            else:
                heapq.heappushpop(self._kept, entry)
        self.seen = known
        return sorted(row for _, row in self._kept)


def draw_panels(
    pool: Pool,
    count: int,
    *,
    size: int,
    seed: int,
    round: int,
    label: str | None,
    what: str = "panel",
    known: int | None = None,
) -> list[tuple[Example, ...]]:
    """Draws `count` panels of `size` different examples each, at random from the first `known` for
    the label, or from all.

    Panel p depends on the run's seed, what it is for, the label, the round, p and these alone.
    """
    draws = (panel_draw(seed, round, label, panel, what) for panel in range(count))
    return [pool.sample(label, size, draw, known) for draw in draws]


def panel_draw(
    seed: int, round: int, label: str | None, panel: int, what: str = "panel"
) -> random.Random:
    """Generator for all that is random about one panel of a round."""
    return random.Random(derive(seed, what, label or "", round, panel))


def render_panel(examples: Sequence[Example], form: PanelForm, task: Task, prompt: str) -> Shown:
    """Renders a panel as the context of a stream, before a record with such a prompt.

    Form "raw" joins the texts with a space, as published (arXiv 2308.07645, section 3.2).
    Form "prompted" shows each text under its own prompt, as the expert read it in training, and
    ends with the record's.
    """
    if form == "raw":
        return Shown(tuple(example.text for example in examples))
    own = tuple(example.prompt for example in examples if example.prompt is not None)
    return Shown(tuple(task.completion(example.text) for example in examples), prompt, own)

"""Panels of a round: which examples they hold, and how the streams read them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.guidance import Contexts, Shown
from steer.models.embedder import Embedder
from steer.models.prompts import text_prompts
from steer.runs import selection
from steer.runs.asking import Asked, Questions
from steer.runs.pool import Example, Pool, draw_panels, panel_draw, render_panel


@dataclass(frozen=True)
class Panel:
    """Examples and contexts that some rows of a round share: the ids of the negative and the
    positive examples, the contexts of their streams, and what the rows answer."""

    negative: tuple[str, ...]
    positive: tuple[str, ...]
    contexts: Contexts
    asked: Asked


class Panels:
    """Chooses the panels of a run.

    Random panels are the published way. The others are chosen by embedding. "crowded" panels hold a
    text from where the pool is densest and its neighbours, "diverse" ones texts far from each
    other. "nearest" ones hold the examples nearest to what the panel's rows would write without it,
    which is drafted first. Those are chosen among `SKETCHED` examples of a label at most, so that a
    round takes no longer as the pool grows. Positive panels are drawn at random from the texts in
    `towards`. Where texts are answers, `chats` and `towards_chats` are what came before them, and
    rows share the examples of a panel, not its contexts.
    """

    def __init__(
        self,
        config: RunConfig,
        task: Task,
        real: Corpus,
        towards: Corpus | None,
        embedder: Embedder | None,
        chats: Sequence[str] | None = None,
        towards_chats: Sequence[str] | None = None,
    ) -> None:
        labelled = bool(real.labels and config.labels)
        self.config, self._task = config, task
        self.questions = Questions(task, real, chats, labelled)
        self.pool = Pool(real, labelled, chats and text_prompts(real, task, chats))
        self._positive = Pool(
            towards or real,
            labelled and (towards is None or bool(towards.labels)),
            towards_chats and text_prompts(towards or real, task, towards_chats),
        )
        self._embedder = embedder
        self._known: dict[str, np.ndarray] = {}

    def require(self) -> None:
        """Raises `SteerError` unless there are enough examples for every panel."""
        guidance, size = self.config.guidance, self.config.panel_size
        if guidance.eta:
            self.pool.require(size, self.config.wanted)
        if guidance.reads_positive:
            self._positive.require(size, self.config.wanted)

    @property
    def drafted(self) -> bool:
        """Whether a text for each row is needed before its panel can be chosen."""
        return self.config.panel_selection == "nearest" and bool(self.config.guidance.eta)

    def asked(self, label: str | None, number: int) -> Asked:
        """What attempt `number` answers, which is to have the `label`."""
        return self.questions.of(label, self.config.seed, number)

    def draw(
        self,
        label: str | None,
        rows: int,
        round: int,
        drafts: Sequence[str] = (),
        known: int | None = None,
        first: int = 0,
    ) -> list[Panel]:
        """Draws the panel of each of `rows` rows with `label`, attempts from number `first` on.
        `drafts` are their texts, where these are needed; of the pool, the first `known` examples
        for the label count, or all."""
        share = self.config.rows_per_panel
        count = -(-rows // share)
        negative = self._negative(label, count, round, drafts, known)
        positive = self._drawn_positive(label, count, round)
        drawn = list(zip(negative, positive, strict=True))
        if self.questions.differ:
            asked = (self.asked(label, first + row) for row in range(rows))
            return [
                self._panel(label, *drawn[row // share], each) for row, each in enumerate(asked)
            ]
        panels = [self._panel(label, *each, self.asked(label, first)) for each in drawn]
        return [panels[row // share] for row in range(rows)]

    def _panel(
        self,
        label: str | None,
        negatives: list[tuple[Example, ...]],
        positive: tuple[Example, ...],
        asked: Asked,
    ) -> Panel:
        others = [other for other in self._task.labels if other != label]
        contexts = Contexts(
            prompt=asked.prompt,
            negative=tuple(self._render(panel, asked) for panel in negatives),
            positive=self._render(positive, asked) if positive else "",
            others=tuple(self._task.render(other, asked.chat) for other in others),
        )
        members = (example.id for panel in negatives for example in panel)
        return Panel(tuple(members), tuple(example.id for example in positive), contexts, asked)

    def _render(self, panel: Sequence[Example], asked: Asked) -> Shown:
        return render_panel(panel, self.config.panel_form, self._task, asked.prompt)

    def _drawn_positive(
        self, label: str | None, count: int, round: int
    ) -> list[tuple[Example, ...]]:
        if not self.config.guidance.reads_positive:
            return [()] * count
        size, seed = self.config.panel_size, self.config.seed
        return draw_panels(
            self._positive, count, size=size, seed=seed, round=round, label=label, what="positive"
        )

    def _negative(
        self, label: str | None, count: int, round: int, drafts: Sequence[str], known: int | None
    ) -> list[list[tuple[Example, ...]]]:
        """Draws for each panel its negatives: one, or several that are pooled."""
        guidance = self.config.guidance
        if not guidance.eta:
            return [[] for _ in range(count)]
        total = count * guidance.negatives
        if self.config.panel_selection == "random":
            size, seed = self.config.panel_size, self.config.seed
            drawn = draw_panels(
                self.pool, total, size=size, seed=seed, round=round, label=label, known=known
            )
        else:
            drawn = self._selected(label, total, round, drafts, known)
        return [
            drawn[first : first + guidance.negatives]
            for first in range(0, total, guidance.negatives)
        ]

    def _selected(
        self, label: str | None, count: int, round: int, drafts: Sequence[str], known: int | None
    ) -> list[tuple[Example, ...]]:
        assert self._embedder is not None
        size, kind = self.config.panel_size, self.config.panel_selection
        examples = self.pool.sketch(label, self.config.seed, known)
        rows = self._embed(self._embedder, [example.text for example in examples])
        if kind == "nearest":
            share = self.config.rows_per_panel
            near = self._embedder.embed(drafts)
            parts = [near[first : first + share] for first in range(0, len(near), share)]
            chosen = [selection.nearest(rows, part, size) for part in parts]
        else:
            choose = selection.crowded if kind == "crowded" else selection.diverse
            seed = self.config.seed
            draws = [panel_draw(seed, round, label, panel) for panel in range(count)]
            chosen = [choose(rows, size, draw) for draw in draws]
        return [tuple(examples[row] for row in panel) for panel in chosen]

    def _embed(self, embedder: Embedder, texts: Sequence[str]) -> np.ndarray:
        """Unit rows (texts, d); the pool grows, so what is known is not embedded again."""
        new = sorted({text for text in texts if text not in self._known})
        if new:
            self._known.update(zip(new, embedder.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])

"""The experts that a server has loaded, with the real texts that their panels are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.engines.live import Live, LiveEngine
from steer.engines.spelling import Spelling
from steer.models.expert import Expert
from steer.models.prompts import text_prompts
from steer.runs.asking import Questions, chats_for
from steer.runs.pool import Pool


@dataclass(frozen=True)
class Served:
    """An expert with its engine and the real texts that panels are drawn from. The engine may be
    that of several experts: their rows are in the batch of that name, and `number` says which of
    its adapters is this one's, from 1."""

    name: str
    expert: Expert
    engine: LiveEngine
    real: Corpus
    longest: int
    batch: str
    number: int

    def require(self) -> None:
        """Raises `SteerError` where texts cannot be held to the shape of the expert's records, or
        the real texts are no answers in chats and its are."""
        if self.task.shape:
            self.engine.masks().check(self.task.shape)
        if self.task.chats:
            _ = self.prompts

    @cached_property
    def task(self) -> Task:
        """The expert's task, with the real texts' white space."""
        return self.expert.task.suited_to(self.real.texts)

    @cached_property
    def chats(self) -> tuple[str, ...] | None:
        """What was said before each real text, for an expert of chats."""
        return chats_for(self.real, self.expert, self.engine)

    @cached_property
    def prompts(self) -> Sequence[str] | None:
        """The prompt of each real text, where each has its own."""
        return self.chats and text_prompts(self.real, self.task, self.chats)

    @cached_property
    def questions(self) -> Questions:
        """What texts answer that are asked nothing else."""
        return Questions(self.task, self.real, self.chats, self._labelled)

    @cached_property
    def pool(self) -> Pool:
        """The real texts, by label where both they and the expert have some."""
        return Pool(self.real, self._labelled, self.prompts)

    @property
    def _labelled(self) -> bool:
        return bool(self.real.labels and self.expert.labels)

    @cached_property
    def spelling(self) -> Spelling:
        """Token ids as text."""
        return Spelling(self.engine.tokenizer, self.engine.ends.tolist())

    @cached_property
    def limits(self) -> Live:
        """A generation that only says what fits."""
        return self.engine.live(self.longest)

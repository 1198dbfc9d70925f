"""Chats that a run answers: each attempt has the earlier turns of a real one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from steer.data.corpus import Corpus
from steer.data.reading.chats import Chat
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models.base import load_tokenizer
from steer.models.expert import Expert
from steer.models.prompts import render_chats
from steer.seeds import derive


@dataclass(frozen=True)
class Asked:
    """What an attempt answers: its prompt; where texts are answers in chats, the real text whose
    earlier `turns` these are, by its `id`, and these as the prompt has them, `chat`."""

    prompt: str
    chat: str | None = None
    id: str | None = None
    turns: Chat = ()


class Questions:
    """What the attempts of a run answer: the task's prompt, or the turns before a real answer of
    the same label, drawn by the run's seed and the attempt's number alone."""

    def __init__(
        self, task: Task, real: Corpus, chats: Sequence[str] | None, labelled: bool
    ) -> None:
        self._task, self._chats = task, chats
        self._turns = real.turns or ()
        self._labelled = labelled
        self._rows: defaultdict[str | None, list[int]] = defaultdict(list)
        for row in range(len(chats or ())):
            self._rows[real.labels[row] if labelled and real.labels else None].append(row)

    @property
    def differ(self) -> bool:
        """Whether each attempt has its own."""
        return self._chats is not None

    def of(self, label: str | None, seed: int, number: int) -> Asked:
        """What attempt `number` of a run of that `seed` answers, which is to have the `label`.
        Raises `SteerError` for an unknown label, and one that no real text has."""
        if self._chats is None:
            return Asked(self._task.render(label))
        rows = self._rows[label if self._labelled else None]
        if not rows:
            raise SteerError(f"no real text has the label {label!r}; choose another")
        row = rows[derive(seed, "chat", number) % len(rows)]
        chat = self._chats[row]
        return Asked(self._task.render(label, chat), chat, f"real:{row}", self._turns[row])


def chats_for(corpus: Corpus, expert: Expert, engine: object) -> tuple[str, ...] | None:
    """What was said before each text, as the engine's tokenizer writes chats; None for an expert of
    other texts."""
    if not expert.task.chats:
        return None
    tokenizer = getattr(engine, "tokenizer", None) or load_tokenizer(expert.base)
    return render_chats(corpus, expert.task, tokenizer)

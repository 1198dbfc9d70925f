"""Prompts of texts, each with its label, and with what was said before an answer as the base
model's chat template writes it."""

from collections.abc import Sequence
from typing import Any

from steer.data.corpus import Corpus
from steer.data.reading.chats import Chat
from steer.data.tasks import CHAT, Task
from steer.errors import SteerError


def render_chats(corpus: Corpus, task: Task, tokenizer: Any) -> tuple[str, ...] | None:
    """Renders what was said before each text, for a task of chats; None for other tasks. Raises
    `SteerError` for texts without turns before them, and for turns that the template refuses."""
    if not task.chats:
        return None
    return tuple(
        render_chat(tokenizer, turns, f"{corpus.source}: the chat of text {number}")
        for number, turns in enumerate(require_turns(corpus), start=1)
    )


def require_turns(corpus: Corpus) -> tuple[Chat, ...]:
    """What was said before each text. Raises `SteerError` where nothing was."""
    if corpus.turns is None:
        raise SteerError(
            f"the prompt has {CHAT} but {corpus.source} has texts that no turn comes before; name "
            "the column of the chats with --text-column, take such rows out, or take the "
            "placeholder out of --prompt"
        )
    return corpus.turns


def text_prompts(corpus: Corpus, task: Task, chats: Sequence[str] | None) -> list[str]:
    """The prompt of each text, which its label and its chat complete."""
    nothing = (None,) * len(corpus.texts)
    labels: Sequence[str | None] = (corpus.labels if task.labels else None) or nothing
    before: Sequence[str | None] = chats or nothing
    return [task.render(label, chat) for label, chat in zip(labels, before, strict=True)]


def render_chat(tokenizer: Any, turns: Chat, where: str = "the chat") -> str:
    """Writes turns, and what comes before the next answer. Without a template each turn is its
    role, a line end, what is said, and an empty line. Raises `SteerError` for turns that the
    template refuses; it calls them by `where` they are."""
    if getattr(tokenizer, "chat_template", None) is None:
        said = "".join(f"{role.capitalize()}:\n{text}\n\n" for role, text in turns)
        return f"{said}Assistant:\n"
    messages = [{"role": role, "content": said} for role, said in turns]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # of Jinja, or whatever a template raises
        raise SteerError(
            f"{where} does not go into the base model's chat template: {error}; correct it or take "
            "it out, or choose another --base"
        ) from None
    return _without_begin(tokenizer, str(text))


def _without_begin(tokenizer: Any, text: str) -> str:
    """The text without the begin-of-text token that the tokenizer adds by itself."""
    begin = tokenizer.bos_token
    adds = begin is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return text.removeprefix(begin) if adds else text

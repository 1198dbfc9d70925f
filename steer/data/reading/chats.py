"""Conversations in data: turns of OpenAI's `messages` and of ShareGPT, and the answer in them."""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from steer.data.reading.rows import shown
from steer.errors import SteerError

Turn = tuple[str, str]
"""Who speaks ("user", "assistant", "system"), and what is said."""

Chat = tuple[Turn, ...]

_ANSWERS = frozenset({"assistant", "gpt", "model", "bot", "chatbot", "chatgpt"})
_USERS = frozenset({"user", "human", "prompter"})
_SPEAKER, _SAID = ("role", "from", "speaker", "sender"), ("content", "value", "text", "parts")
_WRITTEN = [
    re.compile(rf"{start}[\"']({'|'.join(names)})[\"']\s*:")
    for start, names in ((r"^\s*\[\s*\{(?s:.*?)", _SPEAKER), ("", _SAID))
]


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns, each with who speaks and what is said."""
    if isinstance(value, str):  # as nearly all are
        return False
    turns = isinstance(value, Sequence) and len(value) > 0
    return turns and all(isinstance(turn, Mapping) and _speaker(turn) for turn in value)


def is_written(value: Any) -> bool:
    """Whether a string looks like a chat as JSON, or as Python writes a list: cells of CSV can hold
    one in no other way."""
    return isinstance(value, str) and all(each.search(value) for each in _WRITTEN)


def read_written(value: str) -> Sequence[Mapping[str, Any]]:
    """Reads a chat that a string holds; raises `SteerError` where it is none or cut off."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            chat = read(value.strip())
            if is_chat(chat):
                return cast(Sequence[Mapping[str, Any]], chat)
    raise SteerError(
        f"no chat can be read from {shown(value)} ({len(value):,} characters; is it cut off?); "
        "write each as JSON, or the file as JSONL"
    )


def last_answer(chat: Sequence[Mapping[str, Any]]) -> str | None:
    """Text of the last turn of the assistant; None if it has none. The text parts of a turn of
    several parts are joined by line ends."""
    for turn in reversed(chat):
        if _role(turn) == "assistant":
            return _said(turn)
    return None


def earlier_turns(chat: Sequence[Mapping[str, Any]]) -> Chat | None:
    """Turns before the last one of the assistant, which is the answer; None where one of them has
    no text, or nobody answers."""
    last = [place for place, turn in enumerate(chat) if _role(turn) == "assistant"][-1:]
    turns = [(_role(turn), _said(turn)) for turn in chat[: last[0] if last else 0]]
    if not last or any(said is None for _, said in turns):
        return None
    return tuple((role, str(said)) for role, said in turns)


def said_after(chat: Sequence[Mapping[str, Any]]) -> str | None:
    """The last turn, where it comes after the last one of the assistant; who speaks where it has no
    text. None where the assistant has the last word, or none at all."""
    role = _role(chat[-1])
    if role == "assistant" or all(_role(turn) != "assistant" for turn in chat):
        return None
    return _said(chat[-1]) or role


def asked(parts: Iterable[Any]) -> Chat | None:
    """The turn of a user who says these parts, those without text left out; None without any."""
    said = "\n\n".join(part for part in parts if isinstance(part, str) and part.strip())
    return (("user", said),) if said else None


def messages(turns: Chat, answer: str) -> list[dict[str, str]]:
    """Writes a chat in the form of OpenAI's `messages`."""
    whole = [*turns, ("assistant", answer)]
    return [{"role": role, "content": said} for role, said in whole]


def _role(turn: Mapping[str, Any]) -> str:
    role = str(_speaker(turn)).casefold()
    return "assistant" if role in _ANSWERS else "user" if role in _USERS else role


def _speaker(turn: Mapping[str, Any]) -> Any:
    return next((turn[key] for key in _SPEAKER if turn.get(key)), None)


def _said(turn: Mapping[str, Any]) -> str | None:
    said = next((turn[key] for key in _SAID if turn.get(key) is not None), None)
    if isinstance(said, list):
        parts = [part.get("text") for part in said if isinstance(part, Mapping)]
        said = "\n".join(part for part in parts if isinstance(part, str)) or None
    return said if isinstance(said, str) else None

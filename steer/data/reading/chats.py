"""Conversations in data: turns of OpenAI's `messages` and of ShareGPT, and the answer in them."""

from collections.abc import Mapping, Sequence
from typing import Any

_ANSWERS = frozenset({"assistant", "gpt", "model", "bot", "chatbot", "chatgpt"})
_SPEAKER, _SAID = ("role", "from", "speaker"), ("content", "value", "text")


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns, each with who speaks and what is said."""
    turns = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return turns and all(isinstance(turn, Mapping) and _speaker(turn) for turn in value)


def last_answer(chat: Sequence[Mapping[str, Any]]) -> str | None:
    """Text of the last turn of the assistant; None if it has none. The text parts of a turn of
    several parts are joined by line ends."""
    for turn in reversed(chat):
        if str(_speaker(turn)).casefold() in _ANSWERS:
            return _said(turn)
    return None


def _speaker(turn: Mapping[str, Any]) -> Any:
    return next((turn[key] for key in _SPEAKER if turn.get(key)), None)


def _said(turn: Mapping[str, Any]) -> str | None:
    said = next((turn[key] for key in _SAID if turn.get(key) is not None), None)
    if isinstance(said, list):
        parts = [part.get("text") for part in said if isinstance(part, Mapping)]
        said = "\n".join(part for part in parts if isinstance(part, str)) or None
    return said if isinstance(said, str) else None

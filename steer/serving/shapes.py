"""Answers in the shapes of OpenAI's two interfaces, with ours beside them under "steer"."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from steer.engines.live import Wrote
from steer.engines.spelling import Spelling, finite
from steer.serving.experts import Served
from steer.serving.ordering import Ordered
from steer.serving.writing import Piece


@dataclass(frozen=True)
class Shape:
    """What all answers to one request have in common. `chat` chooses the interface. `spelled`
    counts the characters of each choice whose tokens were told."""

    chat: bool
    id: str
    created: int
    served: Served
    ordered: Ordered
    spelling: Spelling
    spelled: Counter[int] = field(default_factory=Counter)

    def chunk(self, piece: Piece, first: bool) -> dict[str, Any]:
        """One event of a stream."""
        text: dict[str, Any] = {"text": piece.text}
        if self.chat:
            role = {"role": "assistant"} if first else {}
            text = {"delta": {**role, "content": piece.text}}
        return self._answer([self._choice(piece, text)], "chat.completion.chunk")

    def whole(self, pieces: Sequence[Piece], usage: dict[str, int]) -> dict[str, Any]:
        """The answer to a request that is not streamed; a piece is a whole text."""
        choices = []
        for piece in pieces:
            text: dict[str, Any] = {"text": piece.text}
            if self.chat:
                text = {"message": {"role": "assistant", "content": piece.text, "refusal": None}}
            choices.append(self._choice(piece, text))
        return self._answer(choices, "chat.completion") | {"usage": usage}

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        """The last event of a stream that tells its usage."""
        return self._answer([], "chat.completion.chunk") | {"usage": usage}

    def _answer(self, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        named = kind if self.chat else "text_completion"
        return {"id": self.id, "object": named, "choices": choices, **self._common}

    @cached_property
    def _common(self) -> dict[str, Any]:
        streams = self.ordered.orders[0].request.streams
        asked = [each.id for each in self.ordered.answers]
        return {
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.expert.adapter_fingerprint,
            "steer": {
                "streams": [each.name for each in streams],
                "weights": [each.weight for each in streams],
                "alpha": self.ordered.method.guidance.alpha,
                **({"asked": asked} if any(asked) else {}),
            },
        }

    def _choice(self, piece: Piece, text: dict[str, Any]) -> dict[str, Any]:
        told = [each for each in piece.wrote if each.log_prob is not None]
        logprobs = None
        if told and self.ordered.orders[0].top is not None:
            logprobs = self._chat_logprobs(told) if self.chat else self._logprobs(piece.index, told)
        choice = {"index": piece.index, **text, "logprobs": logprobs, "finish_reason": piece.ended}
        if any(each.trace for each in piece.wrote):
            choice["steer"] = {
                "tokens": [self.spelling.traced(each.token, each.trace) for each in piece.wrote]
            }
        return choice

    def _logprobs(self, index: int, told: Sequence[Wrote]) -> dict[str, Any]:
        tokens = [self.spelling.token(each.token) for each in told]
        offsets = []
        for each in tokens:
            offsets.append(self.spelled[index])
            self.spelled[index] += len(each)
        return {
            "tokens": tokens,
            "token_logprobs": [finite(each.log_prob) for each in told],
            # The likeliest last: of tokens that are spelled alike, such as parts of a character,
            # it is the one that is told.
            "top_logprobs": [
                {self.spelling.token(token): finite(value) for token, value in each.top[::-1]}
                for each in told
            ],
            "text_offset": offsets,
        }

    def _chat_logprobs(self, told: Sequence[Wrote]) -> dict[str, Any]:
        return {
            "content": [
                self._spelled(each.token, each.log_prob)
                | {"top_logprobs": [self._spelled(token, value) for token, value in each.top]}
                for each in told
            ],
            "refusal": None,
        }

    def _spelled(self, token: int, log_prob: float | None) -> dict[str, Any]:
        text = self.spelling.token(token)
        value = finite(log_prob)
        return {
            "token": text,
            "logprob": -9999.0 if value is None else value,
            "bytes": list(text.encode(errors="replace")),
        }

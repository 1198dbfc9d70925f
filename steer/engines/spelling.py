"""Token ids as text, and what guidance did to each token in words that JSON has."""

import math
from collections.abc import Sequence
from typing import Any

from steer.engines.trace import Candidate


class Spelling:
    """Token ids as text. A token is spelled as it reads after another word, as some tokenizers
    drop the space before the first. Those of `ends` end a text."""

    def __init__(self, tokenizer: Any, ends: Sequence[int]) -> None:
        self._tokenizer, self._ends = tokenizer, frozenset(ends)
        self._anchor = tokenizer("a", add_special_tokens=False).input_ids[-1:]
        self._before = len(tokenizer.decode(self._anchor))

    def text(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def token(self, token: int) -> str:
        """Text of one token."""
        return str(self._tokenizer.decode([*self._anchor, token])[self._before :])

    def traced(self, token: int, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """A token and the candidates for its place as JSON values, log-probabilities in nats."""
        found = [
            {
                "id": each.token,
                "text": self.token(each.token),
                "streams": [finite(value) for value in each.streams],
                "final": finite(each.final),
                "kept": each.kept,
            }
            for each in candidates
        ]
        named = {"id": token, "text": self.token(token), "end": token in self._ends}
        return named | {"candidates": found}


def finite(value: float | None) -> float | None:
    """The value for JSON, which has no infinity, rounded to what fp32 has of it."""
    return None if value is None or not math.isfinite(value) else round(value, 5)

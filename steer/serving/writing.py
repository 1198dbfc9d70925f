"""Tokens become text as they come: characters that are whole, and no part of what stops a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steer.engines.interface import FinishReason
from steer.engines.live import Wrote

_BROKEN = "\ufffd"

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Piece:
    """What a step adds to a text; `wrote` are the tokens behind it, and `ended` why it ended."""

    index: int
    text: str
    wrote: tuple[Wrote, ...]
    ended: FinishReason | None = None


class Writing:
    """One text in the making. It begins with the token ids `begun`, which are not part of the
    answer unless it `echoes`; with `spaced` the space before its first word is left out. It ends
    before the first of `stops`."""

    def __init__(
        self,
        index: int,
        decode: Decode,
        begun: Sequence[int] = (),
        *,
        stops: Sequence[str] = (),
        spaced: bool = False,
        echoes: bool = False,
    ) -> None:
        self.index, self.echoes = index, echoes
        self.begun = len(begun)
        self.tokens: list[int] = []
        self.sent = ""
        self.ended: FinishReason | None = None
        self.means: dict[str, float] = {}
        self._decode, self._stops, self._spaced = decode, stops, spaced
        self._before = "" if echoes else decode(begun).rstrip(_BROKEN)

    @property
    def written(self) -> int:
        """Number of new tokens."""
        return max(0, len(self.tokens) - self.begun)

    def take(self, wrote: Wrote) -> Piece:
        """Takes the next token in."""
        self.tokens.append(wrote.token)
        if len(self.tokens) <= self.begun and not self.echoes and not wrote.finish:
            return Piece(self.index, "", ())
        whole = self._text()
        found = min((at for stop in self._stops if (at := whole.find(stop)) >= 0), default=None)
        if found is not None:
            self.ended, ready = "stop", whole[:found]
        elif wrote.finish:
            self.ended, ready = wrote.finish, whole
        else:
            ready = self._whole(whole)
        text = ready[len(self.sent) :]
        self.sent += text
        self.means = dict(wrote.means or self.means)
        return Piece(self.index, text, (wrote,), self.ended)

    def _text(self) -> str:
        """The text so far; a space that the expert writes before its first word is none of it."""
        text = self._decode(self.tokens)[len(self._before) :]
        return text.removeprefix(" ") if self._spaced else text

    def _whole(self, text: str) -> str:
        """As much of `text` as can be shown: what may become another character, or a stop, is held
        back."""
        text = text.rstrip(_BROKEN)
        longest = max(
            (
                size
                for stop in self._stops
                for size in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:size])
            ),
            default=0,
        )
        return text[: len(text) - longest] if longest else text

"""Tokens become text as they come: characters that are whole, and no part of what stops a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steer.engines.interface import FinishReason
from steer.engines.live import Wrote

_BROKEN = "\ufffd"

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Piece:
    """What is added to a text; `wrote` are the tokens behind it, and `ended` why it ended."""

    index: int
    text: str
    wrote: tuple[Wrote, ...]
    ended: FinishReason | None = None


class Writing:
    """One text in the making. It begins with the token ids `begun`, which are not part of the
    answer unless it `echoes`; with `spaced` the space before its first word is left out. It ends
    before the first of `stops`. Unless it `streams`, pieces have no text before the end."""

    def __init__(
        self,
        index: int,
        decode: Decode,
        begun: Sequence[int] = (),
        *,
        stops: Sequence[str] = (),
        spaced: bool = False,
        echoes: bool = False,
        streams: bool = True,
    ) -> None:
        self.index, self.echoes, self.streams = index, echoes, streams
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

    def take(self, wrote: Sequence[Wrote]) -> Piece:
        """Takes the next tokens in, in order; none after a `stop`."""
        had, told = len(self.sent), list[Wrote]()
        # Spelled all at once, unless a stop may end the text after any of them.
        for some in [[each] for each in wrote] if self._stops else [wrote]:
            told += self._add(some)
            if self.ended:
                break
        return Piece(self.index, self.sent[had:], tuple(told), self.ended)

    def _add(self, wrote: Sequence[Wrote]) -> Sequence[Wrote]:
        """Adds tokens to the text; returns those that the answer has."""
        read = 0 if self.echoes else self.begun - len(self.tokens)
        self.tokens += [each.token for each in wrote]
        finish = wrote[-1].finish
        if not finish and len(self.tokens) <= self.begun and not self.echoes:
            return ()
        if finish or self._stops or self.streams:
            self._spell(finish)
        self.means = dict(wrote[-1].means or self.means)
        return wrote[max(0, read) :] or wrote[-1:]

    def _spell(self, finish: FinishReason | None) -> None:
        whole = self._text()
        found = min((at for stop in self._stops if (at := whole.find(stop)) >= 0), default=None)
        if found is not None:
            self.ended, ready = "stop", whole[:found]
        elif finish:
            self.ended, ready = finish, whole
        else:
            ready = self._whole(whole)
        self.sent += ready[len(self.sent) :]

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

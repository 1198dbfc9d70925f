"""The texts that a request's streams read: those it names, or panels drawn from the pool."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from steer.data.corpus import Corpus
from steer.methods import Method
from steer.runs.pool import Example, Pool
from steer.seeds import derive
from steer.serving.bodies import Asked
from steer.serving.refusal import Refusal, shown

PANELS = 8
"""Negative panels of a label that requests without an `away` share: a panel is read once."""

Find = Callable[[str], Example | None]
"""Gives the text that was written under an id, with what it answers; None where it is not known."""

_REAL = re.compile(r"real:(\d{1,9})")
_WRITTEN = re.compile(r"(chat)?cmpl-[0-9a-f]{24}/\d{1,3}")


def nothing(id: str) -> Example | None:
    """Knows no written text."""
    return None


@dataclass(frozen=True)
class Names:
    """What texts in requests may be named by: rows of the real texts, and ids of written ones. The
    real ones have `prompts` of their own where they are answers."""

    real: Corpus
    find: Find = nothing
    prompts: Sequence[str] | None = None

    def example(self, given: str, param: str) -> Example:
        """Finds a text by its id; what is no id is a text itself, without one. Raises `Refusal`
        where there is none of that id; `param` is the field that has it."""
        if found := _REAL.fullmatch(given):
            row = int(found[1])
            if row >= len(self.real.texts):
                raise Refusal(400, f"there is no real text {shown(given)}", param=param)
            return Example(given, self.real.texts[row], self.prompts[row] if self.prompts else None)
        if not _WRITTEN.fullmatch(given):
            return Example("", given)
        written = self.find(given)
        if written is None:
            raise Refusal(404, f"the text {shown(given)} is no longer known", param=param)
        return written

    def examples(self, given: Iterable[str], param: str) -> tuple[Example, ...]:
        """Finds several, without blank ones."""
        return tuple(self.example(each, param) for each in given if each.strip())


@dataclass(frozen=True)
class Chosen:
    """Chooses the panels of one request of that seed."""

    asked: Asked
    method: Method
    seed: int
    pool: Pool
    names: Names

    def negative(self) -> list[tuple[Example, ...]]:
        """The negative panels: the texts asked for, or some of `PANELS` that the seed chooses."""
        guidance = self.method.guidance
        if not guidance.eta:
            return []
        if self.asked.away:
            return [self._given(self.asked.away, "away")]
        first = derive(self.seed, "panel") % PANELS
        return [self._drawn("panel", first + each) for each in range(guidance.negatives)]

    def positive(self) -> tuple[Example, ...]:
        """The positive panel; empty where no stream reads one."""
        if not self.method.guidance.reads_positive:
            return ()
        if self.asked.towards:
            return self._given(self.asked.towards, "towards")
        return self._drawn("positive", derive(self.seed, "positive"))

    def _given(self, texts: Iterable[str], param: str) -> tuple[Example, ...]:
        """Finds the texts that the request names; raises `Refusal` where all are blank."""
        if found := self.names.examples(texts, param):
            return found
        raise Refusal(400, f"{param}: every text is blank; give one that is not", param=param)

    def _drawn(self, what: str, number: int) -> tuple[Example, ...]:
        """Draws a panel from the real texts and those kept, each as likely as another."""
        label = self.asked.label
        kept = self.names.examples(dict.fromkeys(self.asked.kept), "kept")
        examples = [*self.pool.examples(label), *kept]
        draw = random.Random(derive(0, what, label or "", number % PANELS))
        return tuple(draw.sample(examples, min(self.method.panel_size, len(examples))))

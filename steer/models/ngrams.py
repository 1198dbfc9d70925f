"""A judge that needs no model: how likely a text's characters are, by the characters before them,
in other real texts. It knows wording and word order, and nothing of meaning."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from steer.data.corpus import load_corpus
from steer.data.reading.settings import Reading
from steer.data.tasks import Task
from steer.data.words import fold
from steer.errors import SteerError
from steer.models.cache import OnTexts
from steer.models.readings import Readings, gather

PREFIX = "ngrams:"
ORDER = 8
FEWEST = 200
"""Texts below which the counts say too little."""

_START, _END = "\x02", "\x03"
_STEP = 100


class CharacterModel:
    """Counts of the characters that follow each run of up to `ORDER` - 1 others in the `texts`,
    interpolated after Witten and Bell 1991: a context counts as much as it was seen, and less the
    more different characters followed it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._following: list[defaultdict[str, Counter[str]]] = [
            defaultdict(Counter) for _ in range(ORDER)
        ]
        for text in texts:
            for before, character in _steps(text):
                for length, counts in enumerate(self._following):
                    counts[before[len(before) - length :]][character] += 1
        self._uniform = 1 / (len(self._following[0][""]) + 1)

    def log_probs(self, text: str) -> list[float]:
        """Log-probabilities of each character and of the end of the text, in nats."""
        return [math.log(self._probability(*step)) for step in _steps(text)]

    def _probability(self, before: str, character: str) -> float:
        found = self._uniform
        for length, counts in enumerate(self._following):
            seen = counts.get(before[len(before) - length :])
            if not seen:
                break
            kinds = len(seen)
            found = (seen[character] + kinds * found) / (seen.total() + kinds)
        return found


@dataclass(frozen=True)
class NgramJudge:
    """Judge by character runs of real `texts` that nothing else reads. Its tokens are characters.
    A text is never judged by itself: those to be read are left out of what it is fitted on."""

    name: str
    texts: tuple[str, ...]
    task: ClassVar[Task | None] = None

    def read(
        self,
        texts: Sequence[str],
        labels: Sequence[str] | None = None,
        on_texts: OnTexts | None = None,
    ) -> Readings:
        """Reads each text; `labels` have no effect. `on_texts(done, total)` counts texts. Raises
        SteerError when fewer than `FEWEST` of its own texts are left to fit it on."""
        model = self._fitted(texts)
        report = on_texts or (lambda done, total: None)
        found = []
        for number, text in enumerate(texts, start=1):
            found.append(np.array(model.log_probs(text)))
            if number % _STEP == 0 or number == len(texts):
                report(number, len(texts))
        return gather(found)

    def cut(self, texts: Sequence[str]) -> int:
        """Counts texts that are too long to read: none."""
        return 0

    def is_sibling(self, base: str | None) -> bool:
        """Whether it is of the base model that wrote the texts: never."""
        return False

    @cached_property
    def _folded(self) -> list[str]:
        return [fold(text) for text in self.texts]

    def _fitted(self, read: Sequence[str]) -> CharacterModel:
        judged = {fold(text) for text in read}
        rest = [
            text
            for text, folded in zip(self.texts, self._folded, strict=True)
            if folded not in judged
        ]
        if len(rest) < FEWEST:
            raise SteerError(
                f"the judge {self.name} has {len(rest)} texts that are not measured themselves: it "
                f"needs {FEWEST}; name a file with other real texts, or another judge (--judge)"
            )
        return CharacterModel(rest)


def load_ngram_judge(name: str, reading: Reading | None = None) -> NgramJudge:
    """Loads the judge called `ngrams:DATA`, DATA being real texts as a file or a dataset, whose
    labels do not matter."""
    unlabelled = reading and reading.model_copy(update={"label_column": None})
    return NgramJudge(name, load_corpus(name.removeprefix(PREFIX), reading=unlabelled).texts)


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """Lists the characters of a text and its end, each with the run before it."""
    padded = _START * (ORDER - 1) + text + _END
    for place in range(ORDER - 1, len(padded)):
        yield padded[place - ORDER + 1 : place], padded[place]

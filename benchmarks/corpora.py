"""Corpora that commands are given as TASK=FILE, or the demo's by its name alone."""

import random
from collections.abc import Sequence

from benchmarks.measures import PROMPTS
from examples.demo import PROMPT, TO_FIT
from examples.docstrings import stdlib_summaries
from steer.data.corpus import load_corpus
from steer.errors import SteerError

DEMO = "demo"
_ANY_PROMPT = "A text:"


def read_corpora(given: Sequence[str]) -> dict[str, Sequence[str]]:
    """Reads the texts of each corpus, without labels, by its name. Raises `SteerError` for what is
    no TASK=FILE."""
    found: dict[str, Sequence[str]] = {}
    for each in given:
        task, _, file = each.partition("=")
        if not task or not (file or task == DEMO):
            raise SteerError(f"found the corpus {each!r}; give TASK=FILE, or {DEMO}")
        found[task] = load_corpus(file).texts if file else docstrings()
    return found


def docstrings() -> list[str]:
    """Texts of the demo, in its order: it fits on the first `TO_FIT`."""
    texts = stdlib_summaries()
    random.Random(0).shuffle(texts)
    return texts


def prompt_of(task: str) -> str:
    """Prompt to fit on a corpus of that name with."""
    return PROMPT if task == DEMO else PROMPTS.get(task, _ANY_PROMPT)


def first_texts(task: str, texts: Sequence[str], most: int) -> list[str]:
    """The first texts to fit on, `most` at most; of the demo's no more than it fits on."""
    return list(texts[: min(most, TO_FIT) if task == DEMO else most])

"""Settings of an evaluation."""

from typing import Literal

from pydantic import Field

from steer.config import Config
from steer.data.reading.settings import Reading

MIN_TEXTS = 10
"""Texts of a row, at the least; the real texts are halved, so there are twice as many."""
JUDGES = 2
"""Judges, at the most: the first outside one counts, and another is shown apart."""


class EvaluationSettings(Config):
    """Settings of an evaluation. `n` caps the texts of every row; `embedder` is a
    sentence-transformers name or folder (None: all-MiniLM-L6-v2); `mauve_seeds` 0 leaves MAUVE out.

    `judges` are causal models or experts' folders (`steer.models.judge`), `prompt` what a judge
    that is no expert reads before a text; they read `judged` texts of a row, drawn at random (None:
    all), for reading takes longest. `base` is the base model that wrote the texts, where it is
    known: a judge made of it finds them likely by construction, as an expert does, so it is shown
    apart and never in the summary. `utility` trains classifiers: on "labels", or on the "answers"
    of multiple-choice questions. `reading` is how the file of a judge `ngrams:DATA` is read, where
    its columns are not found by themselves. `cache` keeps embeddings and likelihoods on disk.
    """

    n: int | None = Field(default=None, ge=MIN_TEXTS)
    seed: int = Field(default=0, ge=0)
    embedder: str | None = None
    mauve_seeds: int = Field(default=5, ge=0)
    folds: int = Field(default=5, ge=2)
    near_copy: float = Field(default=0.8, gt=0, le=1)
    bootstrap: int = Field(default=1000, ge=100)
    judges: tuple[str, ...] = Field(default=(), max_length=JUDGES)
    prompt: str | None = None
    judged: int | None = Field(default=None, ge=MIN_TEXTS)
    base: str | None = None
    utility: Literal["labels", "answers"] | None = None
    reading: Reading | None = Field(default=None, exclude=True)
    cache: bool = True

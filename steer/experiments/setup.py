"""Setup that the runs of a comparison, a sweep or a tuning share, and whether it suffices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steer.data.corpus import Corpus
from steer.engines.interface import Engine
from steer.errors import SteerError
from steer.evaluation.settings import MIN_TEXTS
from steer.models.expert import Expert
from steer.runs.pool import Pool


@dataclass(frozen=True)
class Setup:
    """Texts, expert and settings that all methods share. `wanted` are the records of each, for each
    label; `towards` what positive panels are drawn from; `test` the texts to measure against (None:
    the real ones); `base` where the base model is, which may not judge (None: not known); `forbid`
    texts that no record may come close to; `checks` further settings of every run, such as its
    candidates.

    The rest is for readers: the `command` that was given, where the expert is, and the options of
    a command line that name the columns of the texts, the engine and the checks.
    """

    real: Corpus
    expert: Expert
    engine: Engine
    wanted: Mapping[str | None, int]
    max_new_tokens: int
    seed: int = 0
    base: str | None = None
    towards: Corpus | None = None
    command: str = ""
    expert_path: str = ""
    test: Corpus | None = None
    text_options: tuple[str, ...] = ()
    engine_options: tuple[str, ...] = ()
    forbid: Corpus | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    check_options: tuple[str, ...] = ()

    @property
    def reference(self) -> Corpus:
        """Real texts to measure against."""
        return self.test or self.real

    @property
    def pool(self) -> Pool:
        """Texts that the first panels of every run are drawn from."""
        return Pool(self.real, bool(self.real.labels) and None not in self.wanted)

    @property
    def shared(self) -> dict[str, Any]:
        """Settings that every run has."""
        of_all = {"seed": self.seed, **self.checks}
        if None in self.wanted:
            return {"n": self.wanted[None]} | of_all
        return {"labels": dict(self.wanted)} | of_all


def spread(n: int, labels: Sequence[str]) -> dict[str | None, int]:
    """Spreads `n` records over the labels, as evenly as it goes. Raises `SteerError` for too
    few."""
    if not labels:
        return {None: n}
    if n < len(labels):
        raise SteerError(f"n is {n}: fewer than the {len(labels)} labels; ask for more")
    return {label: n // len(labels) + (i < n % len(labels)) for i, label in enumerate(labels)}


def check_size(n: int, real: Corpus) -> None:
    """Raises `SteerError` when `n` records of a method, or the `real` texts, are too few to be
    measured, which is better known before they are made."""
    if n < MIN_TEXTS:
        raise SteerError(
            f"--n is {n}: an evaluation needs {MIN_TEXTS} records of each method; ask for more"
        )
    if len(real.texts) < 2 * MIN_TEXTS:
        raise SteerError(
            f"{real.source} has {len(real.texts)} texts: an evaluation needs {2 * MIN_TEXTS} real "
            "ones; name more with --test, or --real"
        )

"""The options that compare, sweep and tune share, and what is loaded for them."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steer.cli import options
from steer.cli.reading import ReadingOptions
from steer.config import RunConfig, Sampling

if TYPE_CHECKING:  # these load model libraries
    from steer.engines.choice import EngineSpec
    from steer.evaluation.settings import EvaluationSettings
    from steer.experiments.setup import Setup
    from steer.models.expert import Expert

Test = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Real texts to measure against, best ones that neither the expert nor a judge was "
        "fitted on. (default: REAL)",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the expert's base model is now, if elsewhere.",
        rich_help_panel=options.SPEED,
    ),
]
Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make, or to continue.")]

_RUN = RunConfig(n=1)
_CHECKS = ("candidates", "selector", "near")


@dataclass(frozen=True)
class Shared:
    """Options that compare, sweep and tune share, as they were given."""

    expert: options.ExpertFolder
    real: options.Real
    out: Folder
    test: Test = None
    judge: options.Judge = None
    towards: options.Towards = None
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    max_new_tokens: options.MaxNewTokens = None
    candidates: options.Candidates = _RUN.candidates
    selector: options.SelectorName = None
    near: options.Near = _RUN.near
    forbid: options.Forbid = None
    embedder: options.Embedder = None
    seed: options.Seed = 0
    base: Base = None
    engine: options.EngineOption = "hf"
    rows: options.Rows = None
    dtype: options.DTypeOption = "auto"
    device: options.Device = "auto"
    gpus: options.Gpus = 1
    threads: options.Threads = None

    def setup(self, fitted: "Expert", n: int, samplings: Sequence[Sampling] = ()) -> "Setup":
        """Loads what all runs of `n` records share. A mistake shows before the engine, which must
        know all `samplings`, is loaded."""
        from steer.experiments.setup import Setup, check_size, spread

        real = self.reading.load_for(fitted.task, self.real)
        test = self.reading.load_for(fitted.task, self.test) if self.test else None
        towards, forbid = (
            self.reading.load_without_labels(source) if source else None
            for source in (self.towards, self.forbid)
        )
        wanted = spread(n, fitted.labels)
        check_size(n, test or real)
        limit = self.max_new_tokens
        return Setup(
            real,
            fitted,
            self._spec(fitted, samplings).load(),
            wanted,
            fitted.max_completion_tokens if limit is None else limit,
            seed=self.seed,
            towards=towards,
            command=shlex.join(["steer", *sys.argv[1:]]),
            expert_path=str(self.expert),
            test=test,
            text_options=self._text_options(fitted),
            base=self.base or fitted.base,
            engine_options=_words("base", "rows", "dtype", "device", "gpus", "threads", given=self),
            forbid=forbid,
            checks={name: getattr(self, name) for name in _CHECKS},
            check_options=(
                *_words("selector", "near", "forbid", given=self),
                *("--candidates", str(self.candidates)),  # whatever the default of generate
            ),
        )

    def measuring(self, setup: "Setup") -> "EvaluationSettings":
        """Settings of the evaluation that measures the methods."""
        from steer.evaluation.settings import EvaluationSettings
        from steer.experiments.comparison import utility

        task = setup.expert.task
        return EvaluationSettings(
            seed=self.seed,
            embedder=self.embedder,
            judges=tuple(self.judge or ()),
            prompt=task.prompt,
            base=setup.base,
            utility=utility(task),
            reading=self.reading.settings().of_shape(task.shape),
        )

    def _spec(self, fitted: "Expert", samplings: Sequence[Sampling]) -> "EngineSpec":
        from steer.engines.choice import EngineSpec

        base = self.base or fitted.base
        how = self.rows, self.dtype, self.device, self.gpus, self.threads
        spec = EngineSpec(base, fitted.path, self.engine, *how)
        for sampling in samplings:
            spec.require(sampling)
        return spec

    def _text_options(self, fitted: "Expert") -> tuple[str, ...]:
        """Options that name the columns; a command that does not know the expert's task needs the
        labels' too."""
        named = self.reading.words()
        unnamed = fitted.labels and self.reading.label_column is None
        return (*named, "--label-column", "label") if unnamed else named


def _words(*names: str, given: Shared) -> tuple[str, ...]:
    """Writes the options that are not at their defaults as words of a command line."""
    defaults = {each.name: each.default for each in fields(Shared)}
    chosen = {
        name: getattr(given, name) for name in names if getattr(given, name) != defaults[name]
    }
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in chosen.items())
    return tuple(word for pair in pairs for word in pair)

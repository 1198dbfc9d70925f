"""A supply of records for other people's pipelines: as many as are asked for, each given once, from
a run that grows."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from steer.config import Config
from steer.errors import SteerError

if TYPE_CHECKING:
    from steer.runs.records import Record
    from steer.runs.store import Run


class Supply(Config):
    """Settings of a supply: the folder of an `expert`, the `real` texts that it was fitted on (a
    file or dataset, as in docs/data.md), and the folder or address of its `run`, new or begun.

    `gamma`, `eta` and `alpha` change those of the `method`, which without one is that of `steer
    generate`: it steers where one of them is given. The others are those of `steer.RunConfig` and
    `steer.EngineSpec`.
    """

    expert: str
    real: str
    run: str
    method: str | None = None
    gamma: float | None = None
    eta: float | None = None
    alpha: float | None = None
    seed: int = Field(0, ge=0)
    candidates: int = Field(1, ge=1)
    max_attempts: int | None = None
    engine: str = "hf"
    dtype: str = "auto"
    device: str = "auto"
    _given: Counter[str | None] = PrivateAttr(default_factory=Counter)

    def take(self, labels: Sequence[str | None]) -> "list[Record]":
        """Gives a record for each of `labels` (None: without one), in their order, that was not
        given before. The run grows as far as that needs. Raises `SteerError` as
        `steer.launch` does, and when the attempts are used up first."""
        wanted = self._given + Counter(labels)
        run = self._grown(wanted)
        made: dict[str | None, Iterator[Record]] = {}
        for label in wanted:
            records = [record for record in run.records if record.label == label]
            made[label] = iter(records[self._given[label] :])
        taken = [next(made[label]) for label in labels]
        self._given = wanted
        return taken

    def skip(self, count: int) -> None:
        """Passes over the next `count` records without a label, as given before."""
        self._given[None] += count

    def _grown(self, wanted: Counter[str | None]) -> "Run":
        from steer.data.catalog import load_texts
        from steer.engines.choice import EngineSpec
        from steer.methods import adjust, find_method, usual_method
        from steer.models.expert import Expert
        from steer.runs.launch import launch
        from steer.runs.store import begun_with

        expert = Expert.load(self.expert)
        changed = {name: getattr(self, name) for name in ("gamma", "eta", "alpha")}
        changed = {name: value for name, value in changed.items() if value is not None}
        settings: dict[str, Any] = {"seed": self.seed, "candidates": self.candidates}
        settings["max_attempts"] = self.max_attempts
        begun = begun_with(self.run)
        wanted = wanted | Counter(begun[0].wanted) if begun else wanted  # no count may shrink
        if None in wanted:
            settings["n"] = wanted[None]
        else:
            settings["labels"] = dict(wanted)
        name = self.method or usual_method(changed)
        method = adjust(find_method(name, bool(expert.labels)), name, changed)
        spec = EngineSpec(
            expert.base, expert.path, self.engine, dtype=self.dtype, device=self.device
        )
        config = method.configure(settings, None)
        run = launch(config, load_texts(expert.task, self.real), expert, spec, self.run)
        if not run.complete:
            raise SteerError(
                f"the attempts were used up after {len(run.records)} of {wanted.total()} records "
                f"({run.reasons_in_words}); give more max_attempts"
            )
        return run


def content(record: "Record") -> Any:
    """Gives the object that a record is, else its text."""
    try:
        value = json.loads(record.text) if record.text.startswith("{") else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else record.text


def likelihood(record: "Record") -> float | None:
    """Mean log-probability of a record under the expert, nats a token; None where it did not
    run."""
    return record.log_probs.get("expert")

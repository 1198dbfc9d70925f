"""What makes a run that run: its settings and the fingerprints of what it reads."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from steer.config import Config, Guidance, PanelForm, Sampling, Selection
from steer.errors import SteerError


class RunConfig(Config):
    """Settings of a run: `n` records, or a count for each of `labels`.

    A round has at most `round_size` records and `rows_per_panel` of them share a panel of
    `panel_size` examples, selected as `steer.panels` says. `max_attempts` (default: four for each
    record wanted) ends a run whose records are rejected too often. A record must match the regular
    expression `pattern` and have `min_chars` characters; where they are None, the task's hold.
    Round r knows the rounds up to r - `lag`, so that up to `lag` rounds can be made at once.
    """

    n: int | None = Field(None, ge=1)
    labels: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    guidance: Guidance = Guidance()
    sampling: Sampling = Sampling()
    seed: int = Field(0, ge=0)
    round_size: int = Field(256, ge=1)
    panel_size: int = Field(10, ge=1)
    rows_per_panel: int = Field(32, ge=1)
    lag: int = Field(1, ge=1)
    panel_form: PanelForm = "prompted"
    panel_selection: Selection = "random"
    pattern: str | None = None
    min_chars: int | None = Field(None, ge=0)
    max_attempts: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        if (self.n is None) == (not self.labels):
            found = "both" if self.labels else "neither"
            raise SteerError(f"found {found} of n and labels; say how many records with one")
        if self.panel_selection == "nearest" and self.guidance.negatives > 1:
            raise SteerError(
                f"negatives is {self.guidance.negatives}, but there is one nearest panel; "
                "choose another selection, or 1"
            )
        if self.attempts < self.total:
            raise SteerError(
                f"max_attempts is {self.attempts}: fewer than the {self.total} records wanted"
            )
        return self

    @property
    def wanted(self) -> dict[str | None, int]:
        """Records wanted for each label, in the order of the labels; None is no label."""
        if self.n is not None:
            return {None: self.n}
        # Sorted: equal settings must plan equal runs, and equality ignores a dict's order.
        return dict(sorted(self.labels.items()))

    @property
    def total(self) -> int:
        """Records wanted in all."""
        return sum(self.wanted.values())

    @property
    def attempts(self) -> int:
        """The most completions the run may generate."""
        return self.max_attempts or 4 * self.total


class Sources(Config):
    """What a run read: its engine, prompt, and fingerprints, and as a help to readers the names
    of the base model and of the real texts' source (which may differ when a run is resumed).
    `towards_fingerprint` is that of the texts positive panels are drawn from, `embedder` what
    selected the panels; None where there are none."""

    engine: str
    prompt: str
    model_fingerprint: str
    adapter_fingerprint: str
    data_fingerprint: str
    base: str
    real: str
    towards_fingerprint: str | None = None
    embedder: str | None = None


def differences(saved: Config, given: Config, ignore: tuple[str, ...] = ()) -> list[str]:
    """A phrase for each setting that differs, nested ones named with dots."""
    old, new = _settings(saved), _settings(given)
    return [
        f"{name} is {old[name]!r} there and {new[name]!r} now"
        for name in old
        if name not in ignore and old[name] != new[name]
    ]


def _settings(config: Config, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config:
        nested = isinstance(value, Config)
        found |= _settings(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found

"""Spaces of settings that a tuning may choose from: an axis for each setting, and what to try next.

To make a method tunable, add a line to `SPACES`. Every space holds plain sampling, so that each
tuning can find that its method does not help.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal, get_args

from steer.config import Config, PanelForm, Weights
from steer.errors import SteerError
from steer.methods import METHODS, Method

if TYPE_CHECKING:  # slow to load
    from optuna.distributions import BaseDistribution

Settings = Mapping[str, Any]

RANDOM_TRIALS = 8  # before the sampler models them; the starting points count
_OFF_SHARE = 0.25  # how far beyond its end a logarithmic axis goes on as "off", of its length


class Choice(Config):
    """An axis of a few words."""

    words: tuple[str, ...]

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.words)

    def decode(self, raw: str) -> str:
        return raw

    def encode(self, value: str) -> str:
        return value


class Grid(Config):
    """An axis from `low` to `high` in steps; whole numbers when the step is one."""

    low: float
    high: float
    step: float

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, step=self.step)

    def decode(self, raw: float) -> float:
        """Gives the setting of a place on the axis."""
        return round(raw) if self.step.is_integer() else round(raw, 6)

    def encode(self, value: float) -> float:
        """Finds the setting's nearest place on the axis."""
        within = min(max(value, self.low), self.high)
        return self.low + round((within - self.low) / self.step) * self.step


class Log(Config):
    """An axis from `low` to `high` on a logarithmic scale, to two digits. Where the setting can be
    off (0), the axis goes on beyond its `low` or `high` end: one axis always, which a sampler of
    joint distributions needs, and not two that depend on each other."""

    low: float
    high: float
    off: Literal["low", "high", "never"]
    whole: bool = False

    def distribution(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution

        beyond = (self.high / self.low) ** _OFF_SHARE
        low = self.low / beyond if self.off == "low" else self.low
        high = self.high * beyond if self.off == "high" else self.high
        return FloatDistribution(low, high, log=True)

    def decode(self, raw: float) -> float:
        """Gives the setting of a place on the axis."""
        if not self.low <= raw <= self.high:
            return 0
        return round(raw) if self.whole else float(f"{raw:.2g}")

    def encode(self, value: float) -> float:
        """Finds the setting's nearest place on the axis; for 0 the middle of what is off."""
        half = sqrt((self.high / self.low) ** _OFF_SHARE)
        if value == 0 and self.off != "never":
            return self.low / half if self.off == "low" else self.high * half
        return min(max(value, self.low), self.high)


class Space(Config):
    """Axes of a method, by the names of their settings."""

    axes: dict[str, Choice | Grid | Log]

    def start(self, method: Method) -> dict[str, Any]:
        """Finds the settings nearest to those of `method`."""
        raw = {name: axis.encode(_setting(method, name)) for name, axis in self.axes.items()}
        return self.decode(raw)

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the settings of places on the axes."""
        return {name: axis.decode(raw[name]) for name, axis in self.axes.items()}

    def encode(self, settings: Settings) -> dict[str, Any]:
        """Finds the places of settings on the axes."""
        return {name: axis.encode(settings[name]) for name, axis in self.axes.items()}

    def with_panels_of(self, most: int) -> "Space":
        """Limits the space to panels that hold at most so many examples."""
        size = self.axes.get("panel_size")
        if not isinstance(size, Grid) or most >= size.high:
            return self
        return Space(axes=self.axes | {"panel_size": Grid(**dict(size) | {"high": max(most, 3)})})


_STRENGTH = Grid(low=0, high=1.5, step=0.05)
_ALPHA = Log(low=1e-4, high=0.3, off="low")
_TEMPERATURE = Grid(low=0.7, high=1.3, step=0.05)
_CONTRAST = {"gamma": _STRENGTH, "alpha": _ALPHA, "temperature": _TEMPERATURE}

SPACES = {
    "steer": Space(
        axes={
            "gamma": _STRENGTH,
            # Published weights sum to 1 - eta: beyond 1 they write nonsense.
            "eta": Grid(low=0, high=1, step=0.05),
            "alpha": _ALPHA,
            "temperature": _TEMPERATURE,
            "panel_form": Choice(words=get_args(PanelForm)),
            "panel_size": Grid(low=3, high=20, step=1),
            "weights": Choice(words=get_args(Weights)),
        }
    ),
    "plain": Space(axes={"temperature": _TEMPERATURE}),
    "nucleus": Space(axes={"top_p": Grid(low=0.5, high=1, step=0.02), "temperature": _TEMPERATURE}),
    "top-k": Space(
        axes={"top_k": Log(low=2, high=200, off="high", whole=True), "temperature": _TEMPERATURE}
    ),
    "min-p": Space(
        axes={"min_p": Log(low=0.005, high=0.3, off="low"), "temperature": _TEMPERATURE}
    ),
    "typical": Space(
        axes={"typical_p": Grid(low=0.2, high=1, step=0.02), "temperature": _TEMPERATURE}
    ),
    "contrastive-decoding": Space(axes=_CONTRAST),
    "cfg": Space(axes=_CONTRAST),
    "contrastive-search": Space(
        axes={
            "penalty": Grid(low=0, high=0.9, step=0.05),
            "candidates": Grid(low=2, high=10, step=1),
        }
    ),
}


def find_space(method: str) -> Space:
    """Finds the space of a method. Raises `SteerError` for a method without a space."""
    if method not in SPACES:
        raise SteerError(
            f"the method {method!r} cannot be tuned (--method); choose from {', '.join(SPACES)}"
        )
    return SPACES[method]


def find_starts(method: str, space: Space) -> dict[str, dict[str, Any]]:
    """Finds the settings to try first: the method's "defaults", and those of "plain" sampling if
    others."""
    known = {each.name: each for each in METHODS}
    starts = {name: space.start(known[name]) for name in (method, "plain")}
    defaults, plain = starts[method], starts["plain"]
    return {"defaults": defaults} | ({"plain": plain} if plain != defaults else {})


def propose(
    space: Space, tried: Sequence[tuple[Settings, Sequence[float]]], seed: int
) -> dict[str, Any]:
    """Proposes settings worth trying after those `tried`, each with its values, all to be
    maximised.

    Multi-objective tree-structured Parzen estimators (Ozaki et al. 2022, MOTPE). What is proposed
    depends on the arguments only, so a tuning that was stopped goes on as if it was not.
    """
    import optuna

    axes = {name: axis.distribution() for name, axis in space.axes.items()}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        history = optuna.create_study(
            directions=["maximize"] * len(tried[0][1]) if tried else ["maximize"],
            sampler=optuna.samplers.TPESampler(
                seed=seed % 2**32, multivariate=True, n_startup_trials=RANDOM_TRIALS
            ),
        )
        for settings, values in tried:
            history.add_trial(
                optuna.trial.create_trial(
                    params=space.encode(settings), distributions=axes, values=list(values)
                )
            )
        return space.decode(history.ask(axes).params)
    finally:
        optuna.logging.set_verbosity(level)


def _setting(method: Method, name: str) -> Any:
    for part in (method.guidance, method.sampling, method):
        if name in type(part).model_fields:
            return getattr(part, name)
    raise AssertionError(f"no setting {name}")

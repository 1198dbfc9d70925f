"""Growth of a run: more records or more attempts than it was begun with, all else being equal."""

from collections.abc import Mapping
from typing import Any

from steer.config import RunConfig

SIZES = ("n", "labels", "max_attempts")
"""Settings that may grow."""


def completed(given: RunConfig, begun: RunConfig) -> RunConfig:
    """Completes the settings given for a run that was begun: where they name no attempts, they are
    those of the run, or more for more records."""
    if given.max_attempts is not None or begun.max_attempts is None:
        return given
    return given.model_copy(update={"max_attempts": max(begun.attempts, given.attempts)})


def shrinking(begun: RunConfig, given: RunConfig) -> list[str]:
    """Lists a phrase for each count that is smaller than the run's own, which it cannot be."""
    phrases = []
    for label, count in begun.wanted.items():
        now = given.wanted.get(label, 0)
        if now < count:
            name = "n" if label is None else f"the count of the label {label!r}"
            phrases.append(f"{name} is {count} there and {now} now, and may only grow")
    if given.attempts < begun.attempts:
        phrases.append(
            f"max_attempts is {begun.attempts} there and {given.attempts} now, and may only grow"
        )
    return phrases


def sizes(config: RunConfig) -> dict[str, Any]:
    """Gives the settings that may grow, as JSON values."""
    return config.model_dump(mode="json", include=set(SIZES))


def grown(begun: RunConfig, to: Mapping[str, Any]) -> RunConfig:
    """Gives the settings of a run that has grown `to` other `sizes`. Raises `KeyError` where one is
    missing and `SteerError` where it is no valid one."""
    return RunConfig(**dict(begun) | {name: to[name] for name in SIZES})

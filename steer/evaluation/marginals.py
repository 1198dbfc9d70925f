"""Marginals: what each column of records that are objects holds, beside the real records'."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from steer.evaluation import coherence
from steer.evaluation.estimate import Draws, Estimate
from steer.evaluation.sets import Labelled
from steer.evaluation.table import CATEGORY, NUMBER, Marginal
from steer.shapes import Shape, write_value

_OF_TYPE = {"integer": NUMBER, "number": NUMBER, "boolean": CATEGORY}


def columns(shape: Shape | None) -> dict[str, str]:
    """Names the columns of a shape that have a marginal, and whether they hold numbers or
    categories: choices, true and false. Free texts, lists and objects have none."""
    kinds = {name: _kinds(schema) for name, schema in (shape.properties if shape else {}).items()}
    return {name: found.pop() for name, found in kinds.items() if found in ({NUMBER}, {CATEGORY})}


def numbers(texts: Sequence[str], column: str) -> np.ndarray:
    """Reads a column of numbers, shape (texts,); NaN where a text has none."""
    return np.array([_number(value) for value in _values(texts, column)])


def categories(texts: Sequence[str], column: str) -> list[str]:
    """Reads a column of categories: texts as they are, other values as JSON."""
    values = _values(texts, column)
    return [value if isinstance(value, str) else write_value(value) for value in values]


def marginals(
    shape: Shape | None,
    rows: Mapping[str, Labelled],
    reference: Labelled,
    draws: Callable[[str], Draws],
) -> tuple[Marginal, ...]:
    """Measures each column of the rows beside the reference texts'. `draws` gives the bootstrap
    samples of a row by its name."""
    return tuple(
        Marginal(
            column,
            kind,
            {
                name: _MEASURES[kind](given.texts, reference.texts, column, draws(name))
                for name, given in rows.items()
            },
        )
        for column, kind in columns(shape).items()
    )


def total_variation(
    texts: Sequence[str], reference: Sequence[str], column: str, draws: Draws
) -> Estimate:
    """Half the sum of the differences of all categories' shares: the share of texts that would have
    to hold something else. From 0 to 1; by chance it is never quite 0."""
    own, other = (categories(each, column) for each in (texts, reference))
    places = {name: place for place, name in enumerate(dict.fromkeys([*own, *other]))}
    rows = [np.array([places[name] for name in each]) for each in (own, other)]
    shares = [np.bincount(each, minlength=len(places)) / len(each) for each in rows]
    apart = shares[0] - shares[1]
    mine, theirs = (np.sign(apart)[each] / 2 for each in rows)
    return draws.of(float(np.abs(apart).sum() / 2), mine, -theirs).estimate


def distance(texts: Sequence[str], reference: Sequence[str], column: str, draws: Draws) -> Estimate:
    """Wasserstein distance of the numbers that are there, over the standard deviation of the
    reference texts' numbers: how many of these a number has to be moved, on average."""
    own, other = (numbers(each, column) for each in (texts, reference))
    if np.isnan(own).all() or np.isnan(other).all():
        return Estimate(None, reason="no text has a number")
    spread = float(np.nanstd(other))
    if not spread:
        return Estimate(None, reason="all real numbers are equal")
    return coherence.distance(own / spread, other / spread, draws).estimate


_MEASURES = {NUMBER: distance, CATEGORY: total_variation}


def _values(texts: Sequence[str], column: str) -> list[Any]:
    """Reads a column; None where a text is no object or leaves it out."""
    found = []
    for text in texts:
        value = None
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
        found.append(value.get(column) if isinstance(value, dict) else None)
    return found


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _kinds(schema: Any) -> set[str]:
    """What the values of a schema are, but for null."""
    if not isinstance(schema, dict):
        return {"other"}
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return {kind for part in parts for kind in _kinds(part)}
    if "enum" in schema or "const" in schema:
        return {CATEGORY}
    given = schema.get("type", "other")
    kinds = given if isinstance(given, list) else [given]
    return {_OF_TYPE.get(kind, "other") for kind in kinds if kind != "null"}

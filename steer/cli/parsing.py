"""How the values of options are read and checked, before any model library is loaded."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from steer.data.labels import spell
from steer.errors import SteerError


def run_place(address: str) -> Path | str:
    """Place of a run: a folder, or an address such as s3://bucket/run, which a path would spoil."""
    return address if "://" in address else Path(address)


def label_counts(pairs: list[str]) -> dict[str, int]:
    """Reads counts from options such as "hot=250". Raises `SteerError` for any other form."""
    counts: dict[str, int] = {}
    for pair in pairs:
        written, _, count = pair.rpartition("=")
        label = spell(written)
        if not label or not count.strip().isdecimal():
            raise SteerError(f"--label is {pair!r}: write LABEL=NUMBER, such as --label hot=250")
        if label in counts:
            raise SteerError(f"--label names {label!r} twice; give each label one number")
        counts[label] = int(count)
    return counts


def one_of(first: str, second: str, given: tuple[object, object]) -> None:
    """Raises `SteerError` unless one, and only one, of the two options is given."""
    if (given[0] is None) == (given[1] is None):
        which = "neither" if given[0] is None else "both"
        raise SteerError(f"found {which} of {first} and {second}; give one of them")


def alone(option: str, others: Mapping[str, object]) -> None:
    """Raises `SteerError` where one of `others` is given beside the `option`."""
    if beside := [name for name, value in others.items() if value]:
        raise SteerError(f"found {option} and {beside[0]}; give one of them")


def new_file(path: Path) -> Path:
    """Gives `path` back. Raises `SteerError` where a new file cannot be made there."""
    if path.exists() or path.is_symlink():
        raise SteerError(f"{path} exists already; choose another place or remove it first")
    if not path.absolute().parent.is_dir():
        raise SteerError(f"{path} cannot be written: there is no folder {path.absolute().parent}")
    return path


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given: `values` without those that are None."""
    return {name: value for name, value in values.items() if value is not None}


def names(text: str | None) -> list[str]:
    """Reads names with commas between them; none from None."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def parts(name: str, text: str) -> tuple[float, float, float]:
    """Reads three parts such as "80:10:10". Raises `SteerError` for any other form."""
    try:
        first, second, third = (float(part) for part in text.split(":"))
    except ValueError:
        raise SteerError(f"{name} is {text!r}: write three parts, such as 80:10:10") from None
    return first, second, third


def values(name: str, text: str) -> list[float]:
    """Reads numbers from "0:1:0.2" (from, to and step, both ends included) or "0,0.2,1".

    Raises `SteerError` for any other form.
    """
    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [float(number) for number in text.split(",")]
        first, last, step = (Decimal(part) for part in parts)
        count = (last - first) // step + 1
        if step > 0 and 0 < count <= 100:
            return [float(first + step * i) for i in range(int(count))]
    except (ValueError, ArithmeticError):
        pass
    raise SteerError(f"{name} is {text!r}: write FROM:TO:STEP, such as 0:1:0.2, or 0,0.2,1")

"""One rule for labels, whatever they come from: a file of any kind, a list, YAML, an option."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from numbers import Real
from typing import Any

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_TRUTH = {"true": "True", "false": "False"}


def spell(value: Any) -> str | None:
    """Spells a label: JSON's `true`, a spreadsheet's `TRUE` and Python's `True` are "True"; 1, 1.0
    and "1.0" are "1"; white space around it goes. None for what can be no label: nothing, NaN, a
    list, a date."""
    value = value.item() if hasattr(value, "item") else value  # of NumPy
    if not isinstance(value, str | Real) or value != value:
        return None
    text = str(value).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else _TRUTH.get(text.casefold(), text)


def look_alikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups different labels that differ only in case, punctuation or Unicode form; sorted."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[_key(label)].append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _key(label: str) -> str:
    """What is left of a label when only its letters and digits count."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return "".join(filter(str.isalnum, folded)) or folded

"""Time and memory as texts get longer."""

from pathlib import Path

import pytest

from benchmarks.lengths import Lengths, Plan, about, docstrings
from steer.errors import SteerError

SOURCE = '''
def first():
    """Say one thing.

    At length.
    """

class Second:
    """Say another thing."""

def third():
    """Say another thing."""
'''


def test_docstrings_are_read_whole_and_once_from_the_source(tmp_path: Path) -> None:
    for name in ("package/module.py", "package/tests/test_module.py", "other/module.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE.replace("one", path.parent.name))
    found = docstrings(tmp_path, ["package"])
    assert found == ["Say package thing.\n\nAt length.", "Say another thing."]


def test_texts_of_a_length_are_about_as_long() -> None:
    counted = [(f"{tokens}", tokens) for tokens in (10, 47, 48, 64, 85, 86)]
    assert about(64, counted, 3) == ["48", "64", "85"]
    with pytest.raises(SteerError, match="found 3 docstrings of about 64 tokens"):
        about(64, counted, 4)


def test_a_point_has_what_both_commands_took(tiny_model: Path) -> None:
    plan = Plan(lengths=(16,), texts=12, epochs=1, records=2)
    texts = [f"Return the number {number} of things in the list." for number in range(12)]
    lengths = Lengths(str(tiny_model), plan, lambda _: None)
    lengths.plan = Plan(lengths=(lengths._tokens(texts[0]),), texts=12, epochs=1, records=2)
    (point,) = lengths.points(texts)
    assert point["fit_seconds"] > 0 and 0.1 < point["fit_gib"] < 8
    assert point["fit_gib_foretold"] is not None and point["dropped"] == 0
    assert point["records"] <= 2 and point["generate_gib"] > 0.1

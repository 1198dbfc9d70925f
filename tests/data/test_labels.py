"""One spelling for a label, whatever it comes from."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steer.cli.parsing import label_counts
from steer.data.catalog import load_task
from steer.data.corpus import Corpus
from steer.data.labels import look_alikes, spell


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ((True, "true", "True", "TRUE", " true ", np.bool_(True)), "True"),
        ((False, "false", "FALSE"), "False"),
        ((1, 1.0, "1", "1.0", "1.00", np.int64(1), np.float32(1)), "1"),
        ((0.5, "0.5"), "0.5"),
        ((-2, "-2.0"), "-2"),
        (("yes", " yes\n"), "yes"),
        (("Yes",), "Yes"),
        (("1.10",), "1.10"),
        (("v2.0",), "v2.0"),
        ((None, math.nan, [], {}, b"x"), None),
    ],
)
def test_one_spelling(values: tuple[Any, ...], label: str | None) -> None:
    assert {spell(value) for value in values} == {label}


def test_every_source_spells_alike(tmp_path: Path) -> None:
    written = tmp_path / "task.yaml"
    written.write_text("prompt: 'A {label} one:'\nlabels: [yes, no, true, 1.0, off, null]\n")
    with pytest.raises(Exception, match=r"labels\.5 is None"):
        load_task(written)
    written.write_text("prompt: 'A {label} one:'\nlabels: [yes, no, true, 1.0, off]\n")
    labels = ("yes", "no", "True", "1", "off")
    assert load_task(written).labels == labels
    assert Corpus.of([*"abcde"], ["yes", "no", True, 1, "off"]).labels == labels
    assert tuple(label_counts(["yes=1", "no=1", "true=1", "1.0=1", "off=1"])) == labels


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("Toxic", "toxic", "mild"), [("Toxic", "toxic")]),
        (("non-toxic", "non toxic", "nontoxic"), [("non toxic", "non-toxic", "nontoxic")]),
        (("\uff57ide", "wide"), [("wide", "\uff57ide")]),
        (("+", "-", "1", "2"), []),
        (("a", "b"), []),
    ],
)
def test_look_alikes(labels: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
    assert look_alikes(labels) == found

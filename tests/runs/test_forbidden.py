"""Records that come too close to a test set are rejected, counted and nowhere in the pool."""

import logging
import random
from pathlib import Path

import pytest

from steer.config import RunConfig
from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.runs.balance import balancing
from tests import stub
from tests.runs.test_generation import CONFIG, REAL, rounds, run


def test_records_close_to_a_test_set_are_rejected(tmp_path: Path) -> None:
    free = run(tmp_path / "free")
    forbid = [free.records[0].text, f"Before it, {free.records[5].text}, and after it."]
    made = run(tmp_path / "made", forbid=forbid)
    assert made.complete and made.reasons["forbidden"] >= 2
    assert not {free.records[0].text, free.records[5].text} & set(made.texts)
    forbidden = [each for each in made.rejects if each.reason == "forbidden"]
    assert {each.of for each in forbidden} == {"forbid:0", "forbid:1"}
    panels = {member for each in (*made.records, *made.rejects) for member in each.panel}
    assert not {each.id for each in forbidden} & panels
    assert rounds(run(tmp_path / "made", forbid=forbid).path) == rounds(made.path)


def test_a_run_keeps_its_test_set(tmp_path: Path) -> None:
    run(tmp_path / "run", forbid=["a sentence that nobody writes here"])
    with pytest.raises(SteerError, match="forbid_fingerprint"):
        run(tmp_path / "run")


def test_real_texts_that_are_forbidden_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run(tmp_path / "run", RunConfig(**dict(CONFIG) | {"n": 2}), forbid=list(REAL.texts[:3]))
    assert "3 of 30 real texts" in caplog.text


def test_balancing_fills_up_to_the_largest() -> None:
    labels = [*"a" * 9, *"b" * 4, *"c" * 9, "d"]
    texts = [stub.sentence(random.Random(row)) for row in range(len(labels))]
    real = Corpus(tuple(texts), tuple(labels), "d.jsonl")
    assert balancing(real) == {"b": 5, "d": 8}


@pytest.mark.parametrize(
    ("labels", "message"), [(None, "--label-column"), (("a", "b"), "nothing to fill up")]
)
def test_nothing_to_balance(labels: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(SteerError, match=message):
        balancing(Corpus(("one", "two"), labels, "d.jsonl"))

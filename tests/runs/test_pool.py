import pytest

from steer.data.tasks import Task
from steer.errors import SteerError
from steer.guidance import Shown
from steer.runs.pool import Example, Pool, draw_panels, render_panel
from steer.runs.records import Record
from tests import stub


def record(number: int, label: str | None = None) -> Record:
    return Record(**stub.FIELDS | {"id": f"rec:{number}", "text": f"text {number}", "label": label})


def ids(panels: list[tuple[Example, ...]]) -> list[list[str]]:
    return [[example.id for example in panel] for panel in panels]


def test_a_panel_depends_on_its_own_number_only() -> None:
    pool = Pool(stub.corpus(), labelled=False)
    three = draw_panels(pool, 3, size=5, seed=1, round=2, label=None)
    assert draw_panels(pool, 2, size=5, seed=1, round=2, label=None) == three[:2]
    for seed, round, label in [(2, 2, None), (1, 3, None), (1, 2, "x")]:
        assert draw_panels(pool, 3, size=5, seed=seed, round=round, label=label) != three
    assert len({tuple(panel) for panel in ids(three)}) == 3
    assert all(len(set(panel)) == 5 for panel in ids(three))


def test_accepted_records_join_the_pool() -> None:
    pool = Pool(stub.corpus(2), labelled=False)
    pool.add([record(number) for number in range(8)])
    assert [example.id for example in pool.examples(None)][:3] == ["real:0", "real:1", "rec:0"]
    (panel,) = draw_panels(pool, 1, size=10, seed=0, round=1, label=None)
    assert sorted(ids([panel])[0]) == sorted(
        ["real:0", "real:1", *(f"rec:{number}" for number in range(8))]
    )


def test_a_large_pool_is_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is there whole; of a large one a fixed sample, whatever was asked before."""
    monkeypatch.setattr("steer.runs.pool.SKETCHED", 100)
    grown = Pool(stub.corpus(50, labels=("a", "b")), labelled=False)
    assert grown.sketch("a", seed=1) == grown.examples("a")
    samples = []
    for number in range(2000):
        grown.add([record(number)])
        if number % 100 == 99:
            samples.append(grown.sketch(None, seed=1))
    assert [len(set(sample)) for sample in samples] == [100] * 20
    numbers = [grown.examples(None).index(example) for example in samples[-1]]
    assert numbers == sorted(numbers) and 700 < sum(numbers) / 100 < 1350  # uniform
    assert len(set(samples[-1]) - set(samples[-2])) < 20
    once = Pool(stub.corpus(50, labels=("a", "b")), labelled=False)
    once.add([record(number) for number in range(2000)])
    for known, sample in ((50 + 500, samples[4]), (2050, samples[-1]), (50 + 300, samples[2])):
        assert once.sketch(None, seed=1, known=known) == sample
    assert once.sketch(None, seed=2) != samples[-1]


def test_a_label_has_its_own_examples() -> None:
    pool = Pool(stub.corpus(10, labels=("a", "b")), labelled=True)
    pool.add([record(7, "b")])
    assert {e.id for e in pool.examples("a")} == {f"real:{row}" for row in range(0, 10, 2)}
    assert "rec:7" in {e.id for e in pool.examples("b")}
    unlabelled = Pool(stub.corpus(10, labels=("a", "b")), labelled=False)
    assert len(unlabelled.examples("a")) == 10


def test_too_few_examples() -> None:
    pool = Pool(stub.corpus(9, labels=("a", "b")), labelled=True)
    pool.require(4, ["a", "b"])
    with pytest.raises(SteerError, match="needs 5 real texts with the label 'b' but there are 4"):
        pool.require(5, ["a", "b"])
    with pytest.raises(SteerError, match="needs 10 real texts but there are 9"):
        Pool(stub.corpus(9), labelled=False).require(10, [None])


def test_how_a_panel_is_written() -> None:
    examples = (Example("real:0", "One."), Example("rec:4", "Two."))
    task = Task("Say {label}:", ("hi",))
    assert render_panel(examples, "raw", task, "Say hi:") == Shown(("One.", "Two."))
    shown = Shown((" One.", " Two."), "Say hi:")
    assert render_panel(examples, "prompted", task, "Say hi:") == shown
    spaced = Task("Say:\n")
    assert render_panel(examples, "prompted", spaced, "Say:\n") == Shown(("One.", "Two."), "Say:\n")

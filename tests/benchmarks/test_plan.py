"""How much the benchmark measures: chosen by speed and by the time there is, on made-up times."""

from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console

from benchmarks import machine, plan
from benchmarks.pairs import Comparison, Group, Load, Sample, Side
from benchmarks.plan import Budget, Plan, Probe, choose, repeat_doubtful
from benchmarks.table import Talk
from steer.models import machine as processor

LOAD = Load(rows=2, records=2, tokens=4)


class Made(Group):
    """A group whose side `a` takes these seconds, one repeat after another; `b` takes one."""

    def __init__(self, name: str, *seconds: float) -> None:
        sides = [Side(side, lambda load: 0.0, LOAD) for side in "ab"]
        super().__init__(name, sides, [Comparison(name, "a", "b")])
        self.coming = list(seconds)
        self.samples = {"a": [], "b": []}
        for _ in range(2):
            self.repeat(lambda text: None)

    def repeat(self, report: object) -> None:
        self.samples["a"].append(Sample(self.coming.pop(0), LOAD.total))
        self.samples["b"].append(Sample(1.0, LOAD.total))


def probe(rate: float) -> Probe:
    return Probe(rows=64, tokens=8, tokens_per_second=rate)


def test_a_slower_machine_gets_less_but_never_fewer_rows_or_pairs() -> None:
    plans = [choose(probe(rate)) for rate in (1350, 400, 250, 100, 1)]
    assert plans[0] == Plan()
    assert plans[3] == plans[4]
    for more, less in pairwise(plans):
        assert (less.tokens, less.records) <= (more.tokens, more.records)
    assert all(each.least >= 2 and each.tokens >= 16 and each.records >= 64 for each in plans)


def test_less_time_is_as_if_the_machine_were_slower() -> None:
    assert choose(probe(1350), plan.MINUTES / 4) == choose(probe(1350 / 4))


def test_time_left_goes_to_the_group_that_scatters() -> None:
    steady, restless = Made("steady", 1, 1), Made("restless", 1, 2, 1, 2, 1, 2)
    repeat_doubtful([steady, restless], 5, lambda: 100.0, lambda text: None)
    assert (steady.repeats, restless.repeats) == (2, 5)


def test_a_median_that_settles_is_repeated_no_more() -> None:
    group = Made("settles", 1, 1.05, *[1.0] * 10)
    repeat_doubtful([group], 9, lambda: 100.0, lambda text: None)
    assert group.doubt <= plan.DOUBT and group.repeats < 9


def test_nothing_is_begun_that_takes_longer_than_is_left() -> None:
    long, short = Made("long", 1, 30), Made("short", 1, 2, 1, 2)
    repeat_doubtful([long, short], 4, lambda: 10.0, lambda text: None)
    assert (long.repeats, short.repeats) == (2, 4)
    assert long.seconds == 31
    assert long.doubt > short.doubt


def test_progress_tells_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    for budget, said in ((Budget(10), True), (Budget(None), False), (Budget(0), False)):
        Talk(Console(width=200), budget)("something")
        shown = capsys.readouterr().out
        assert "something ..." in shown
        assert ("(at most 10 min left)" in shown) is said


@pytest.mark.parametrize(
    ("native", "capability", "name"),
    [(True, "AVX512", "cpu"), (False, "AVX2", "cpu-avx2"), (False, "NO AVX", "cpu-no-avx")],
)
def test_results_are_named_by_what_the_processor_can_do(
    monkeypatch: pytest.MonkeyPatch, native: bool, capability: str, name: str
) -> None:
    torch = machine.torch
    bf16 = frozenset({torch.bfloat16} if native else ())
    monkeypatch.setattr(
        processor, "processor", lambda: processor.Processor(bf16, packed=bf16, fused=bf16)
    )
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert machine.results_file("cpu").name == f"{name}.json"
    assert machine.results_file("cpu", "levers").name == f"levers-{name}.json"
    assert machine.results_file("cuda").name == "gpu.json"
    found = machine.machine("cpu")
    assert (found["dtype"], found["capability"]) == (
        "bfloat16" if native else "float32",
        capability,
    )
    assert found["threads"] > 0


def test_a_plan_says_what_it_measures() -> None:
    shown = str(replace(Plan(), tokens=24))
    assert "24 tokens a record" in shown and "2 to 9 repeats" in shown
    assert str(plan.QUICK).endswith(" 1 repeat")

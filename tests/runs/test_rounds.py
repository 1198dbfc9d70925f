import pytest

from steer.config import RunConfig
from steer.errors import SteerError
from steer.runs.rounds import Tally, plan_round


def test_the_first_round_is_no_larger_than_what_is_wanted() -> None:
    assert plan_round(RunConfig(n=100), {None: Tally()}) == {None: 100}
    assert plan_round(RunConfig(n=1000), {None: Tally()}) == {None: 256}


def test_the_size_of_the_first_round_can_be_given() -> None:
    none = {None: Tally()}
    assert plan_round(RunConfig(n=100), none, first=range(200, 1000)) == {None: 200}
    assert plan_round(RunConfig(n=100), none, candidates=3, first=range(200, 1000)) == {None: 300}
    assert plan_round(RunConfig(n=100), none, candidates=3, first=range(40, 41)) == {None: 40}
    later = {None: Tally(40, 40, 13)}
    assert plan_round(RunConfig(n=100), later, candidates=3, first=range(40, 41)) == {None: 261}


def test_later_rounds_follow_the_acceptance_rate() -> None:
    config = RunConfig(n=1000)
    plan = plan_round(config, {None: Tally(attempts=1800, passed=900, accepted=900)})
    assert plan[None] in (199, 200)
    nothing_passed = plan_round(config, {None: Tally(attempts=256)})
    assert nothing_passed == {None: 256}


def test_the_last_rounds_are_no_smaller_than_a_handful() -> None:
    config = RunConfig(n=100)
    assert plan_round(config, {None: Tally(attempts=99, passed=99, accepted=99)}) == {None: 8}
    assert plan_round(RunConfig(n=1, round_size=3), {None: Tally()}) == {None: 3}


def test_no_round_when_done_or_out_of_attempts() -> None:
    config = RunConfig(n=10, max_attempts=40)
    assert plan_round(config, {None: Tally(20, 10, 10)}) == {}
    assert plan_round(config, {None: Tally(37, 9, 9)}) == {None: 3}
    assert plan_round(config, {None: Tally(40, 9, 9)}) == {}


def test_labels_share_a_round_by_what_each_needs() -> None:
    config = RunConfig(labels={"b": 300, "a": 100}, round_size=100)
    plan = plan_round(config, {"a": Tally(), "b": Tally()})
    assert list(plan.items()) == [("a", 25), ("b", 75)]
    hard = {"a": Tally(400, 50, 50), "b": Tally(300, 300, 300)}
    assert plan_round(config, hard) == {"a": 100}


def test_shares_add_up() -> None:
    config = RunConfig(labels=dict.fromkeys("abcdefg", 7), round_size=10)
    plan = plan_round(config, {name: Tally() for name in "abcdefg"})
    assert sum(plan.values()) == 10
    assert set(plan.values()) == {1, 2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "neither of n and labels"),
        ({"n": 5, "labels": {"a": 2}}, "both of n and labels"),
        ({"n": 0}, "n is 0"),
        ({"n": float("nan")}, "n is nan"),
        ({"labels": {"a": 0}}, "labels.a is 0"),
        ({"n": 5, "max_attempts": 4}, "fewer than the 5 records wanted"),
        ({"n": 5, "round_size": 0}, "round_size is 0"),
        ({"n": 5, "panel_form": "odd"}, "panel_form is 'odd'"),
        ({"n": 5, "gamma": 1}, "unknown setting 'gamma'; the settings are n, labels"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SteerError, match=message):
        RunConfig(**settings)


def test_the_order_of_labels_does_not_count() -> None:
    one, other = RunConfig(labels={"b": 1, "a": 2}), RunConfig(labels={"a": 2, "b": 1})
    assert list(one.wanted.items()) == list(other.wanted.items())
    assert one.fingerprint() == other.fingerprint()

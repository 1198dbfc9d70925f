import numpy as np
import pytest

from steer.evaluation.differences import Difference, detectable, differences, verdict
from steer.evaluation.estimate import Sampled, draws


def apart(one: str, other: str, value: float, half: float = 0.02) -> Difference:
    return Difference("summary", one, other, value, value - half, value + half, half / 1.96)


def test_pairs_are_in_the_order_of_the_rows() -> None:
    rows = {name: Sampled(value, np.full(100, value)) for name, value in (("a", 0.9), ("b", 0.7))}
    rows["real"] = Sampled(1.0, np.linspace(0.9, 1.1, 100))
    found = differences("summary", rows)
    assert [(each.one, each.other) for each in found] == [("a", "b"), ("a", "real"), ("b", "real")]
    assert found[0] == Difference("summary", "a", "b", *(pytest.approx(0.2),) * 3, pytest.approx(0))
    assert found[1].value == pytest.approx(-0.1)
    assert found[1].low == pytest.approx(-0.195) and found[1].high == pytest.approx(-0.005)


@pytest.mark.parametrize(
    ("low", "high", "beyond"),
    [(0.01, 0.2, True), (-0.2, -0.01, True), (-0.01, 0.2, False), (0.0, 0.0, False)],
)
def test_more_than_chance_leaves_nothing_out(low: float, high: float, beyond: bool) -> None:
    assert Difference("summary", "a", "b", (low + high) / 2, low, high, 0.1).beyond is beyond


def rows_that_share_the_reference(n: int, seed: int) -> tuple[Sampled, Sampled]:
    """Gaps of two sets to the same noisy reference texts."""
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=n)
    found = []
    for name, mean in (("a", 0.3), ("b", 0.1)):
        own = mean + 0.3 * draw.normal(size=n)
        value = own.mean() - reference.mean()
        found.append(draws(n, 500, seed, name).of(value, own, -reference))
    return found[0], found[1]


def test_paired_differences_are_narrower_than_unpaired_ones() -> None:
    a, b = rows_that_share_the_reference(100, 0)
    (paired,) = differences("gap", {"a": a, "b": b})
    unpaired = np.hypot(a.samples.std(), b.samples.std())
    assert paired.error == pytest.approx(0.3 * np.sqrt(2) / 10, rel=0.15)
    assert paired.error < 0.4 * unpaired
    assert paired.beyond


def test_paired_intervals_hold_the_truth() -> None:
    held = []
    for seed in range(120):
        a, b = rows_that_share_the_reference(60, seed)
        (found,) = differences("gap", {"a": a, "b": b})
        held.append(found.low <= 0.2 <= found.high)
    assert 0.88 < np.mean(held) < 1


def test_a_difference_that_can_be_shown_is_found_four_times_in_five() -> None:
    errors = [
        differences("gap", dict(zip("ab", rows_that_share_the_reference(60, s), strict=True)))
        for s in range(5)
    ]
    size = np.median([detectable(each) for each in errors])
    draw = np.random.default_rng(0)
    # A difference of that size, measured with that error, over and over.
    error = size / 2.8
    assert np.mean(np.abs(draw.normal(size, error, 20_000)) > 1.96 * error) == pytest.approx(
        0.8, abs=0.01
    )


def test_what_can_be_shown_is_the_median_over_the_pairs() -> None:
    found = [apart("a", "b", 0.1, half * 1.96) for half in (0.01, 0.02, 0.9)]
    assert detectable(found) == pytest.approx(2.8 * 0.02)


VALUES = {"a": 0.9, "b": 0.8, "c": 0.7, "real": 1.0}
FAR, NEAR = 0.1, 0.01


def said(ab: float, ac: float, against: float, *, names: str = "abc") -> str:
    values = {name: VALUES[name] for name in (*names, "real")}
    found = [apart("a", "real", against), apart("b", "real", -0.2), apart("c", "real", -0.3)]
    found += [apart("a", "b", ab), apart("a", "c", ac), apart("b", "c", FAR)]
    return verdict("the summary", values, found, "real", 100)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((FAR, FAR, -FAR), "a is ahead of b and c, and below real texts"),
        ((NEAR, FAR, -FAR), "a is ahead of c, not told apart from b, and below real texts"),
        (
            (NEAR, NEAR, -NEAR),
            "a is not told apart from b and c, and not told apart from real texts",
        ),
        ((FAR, FAR, FAR), "a is ahead of b and c, and above real texts"),
    ],
)
def test_the_sentence(given: tuple[float, float, float], sentence: str) -> None:
    expected = f"by the summary, {sentence}; 100 texts a row show differences from 0.03"
    assert said(*given) == expected


@pytest.mark.parametrize(
    ("against", "sentence"),
    [
        (-FAR, "a is below real texts"),
        (NEAR, "a is not told apart from real texts"),
        (FAR, "a is above real texts"),
    ],
)
def test_the_sentence_on_one_set(against: float, sentence: str) -> None:
    values = {"a": 0.9, "real": 1.0}
    found = verdict("fidelity", values, [apart("a", "real", against)], "real", 50)
    assert found == f"by fidelity, {sentence}; 50 texts a row show differences from 0.03"


def test_the_best_is_found_wherever_it_stands() -> None:
    values = {"low": 0.5, "high": 0.9, "real": 1.0}
    found = [apart("low", "high", -0.4), apart("low", "real", -0.5), apart("high", "real", -NEAR)]
    assert verdict("x", values, found, "real", 10).startswith(
        "by x, high is ahead of low, and not told apart from real texts;"
    )


@pytest.mark.parametrize("values", [{}, {"real": 1.0}, {"a": 1.0}])
def test_what_is_missing_is_said(values: dict[str, float]) -> None:
    assert "nothing can be compared" in verdict("the summary", values, [], "real", 10)

from math import exp, log, sqrt

import numpy as np
import pytest

from steer.evaluation import summary
from steer.evaluation.estimate import Estimate, Sampled
from steer.evaluation.summary import (
    NO_SUMMARY,
    PARTS,
    harmonic_mean,
    pareto_front,
    summarise,
    summary_estimates,
)


def sampled(value: float, spread: float = 0.0) -> Sampled:
    return Sampled(value, value + spread * np.linspace(-1, 1, 101))


def parts(**changed: float | None) -> dict[str, Sampled | None]:
    given = dict.fromkeys(PARTS, 1.0) | {f"{key}_score": value for key, value in changed.items()}
    return {key: None if value is None else sampled(value, 0.1) for key, value in given.items()}


def test_texts_as_the_reference_texts_score_one() -> None:
    assert summarise(parts()).value == pytest.approx(1)
    assert summary.fidelity(sampled(0.5)).value == 1
    assert summary.diversity(sampled(log(1)), sampled(log(1))).value == 1
    assert summary.coherence(sampled(0.05), 0.05, sampled(0.2), 0.2).value == 1
    assert summary.non_copying(sampled(0.05), 0.05).value == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (summary.fidelity(sampled(0.8)), 0.4),
        (summary.fidelity(sampled(1.0)), 0.0),
        (summary.diversity(sampled(log(1 / 4)), sampled(log(9 / 10))), sqrt(9 / 40)),
        (summary.diversity(sampled(log(1 / 4)), None), 1 / 4),
        (summary.coherence(sampled(0.24), 0.05, sampled(0.5), 0.1), 0.8 * exp(-0.4)),
        (summary.non_copying(sampled(1.0), 0.05), 0.0),
        (summary.non_copying(sampled(0.43), 0.05), 0.6),
    ],
)
def test_parts_by_hand(found: Sampled, expected: float) -> None:
    assert found.value == pytest.approx(expected)
    assert found.samples == pytest.approx(np.full(101, expected))


@pytest.mark.parametrize(
    "found",
    [
        summary.fidelity(sampled(0.4)),
        summary.diversity(sampled(log(1.2)), sampled(log(1.1))),
        summary.coherence(sampled(0.0), 0.05, sampled(0.1), 0.2),
        summary.non_copying(sampled(0.0), 0.05),
    ],
)
def test_better_than_real_is_more_than_one(found: Sampled) -> None:
    assert found.value > 1


def test_the_summary_is_not_clipped() -> None:
    found = summarise(parts(fidelity=1.2, diversity=1.1)).value
    assert found == pytest.approx(4 / (1 / 1.2 + 1 / 1.1 + 2)) and found > 1


def test_the_summary_by_hand() -> None:
    found = summarise(parts(fidelity=0.5, diversity=0.25, coherence=0.8))
    assert found.value == pytest.approx(4 / (2 + 4 + 1.25 + 1))
    moved = [4 / sum(1 / (v + 0.1 * s) for v in (0.5, 0.25, 0.8, 1)) for s in (-1, 1)]
    assert found.samples[[0, -1]] == pytest.approx(moved)


@pytest.mark.parametrize("part", ["fidelity", "diversity", "coherence", "non_copying"])
def test_a_part_of_zero_makes_the_summary_zero(part: str) -> None:
    assert summarise(parts(**{part: 0.0})).value == 0


@pytest.mark.parametrize("value", [0.0, -0.05])
def test_samples_below_zero_count_as_zero(value: float) -> None:
    found = summarise(parts(fidelity=value))
    assert found.samples.min() == 0 and found.samples.max() > 0


def test_without_coherence_there_is_no_summary() -> None:
    given = parts(coherence=None)
    assert summarise(given) is None
    found = summary_estimates(given, {"coherence_score": "no judge"})
    assert found["coherence_score"] == Estimate(None, reason="no judge")
    assert found["summary"] == Estimate(None, reason=NO_SUMMARY)
    assert found["fidelity_score"].value == 1


def test_another_part_that_is_missing_is_named() -> None:
    given = parts(fidelity=None, non_copying=0.25)
    found = summary_estimates(given, {"fidelity_score": "too few"})
    assert found["fidelity_score"] == Estimate(None, reason="too few")
    assert found["summary"].value == pytest.approx(3 / (1 + 1 + 4))
    assert found["summary"].reason == "without fidelity"
    assert found["summary"].low < found["summary"].value < found["summary"].high


def test_harmonic_mean() -> None:
    assert harmonic_mean([1, 0.5]) == pytest.approx(2 / 3)
    assert harmonic_mean([1, 0]) == 0
    assert harmonic_mean([]) is None


def test_the_pareto_front_is_what_nothing_beats() -> None:
    points = {"a": (0.0, 1.0), "b": (0.5, 0.5), "c": (0.4, 0.4), "d": (1.0, 0.0), "e": (0.5, 0.5)}
    assert pareto_front(points) == ["a", "b", "d", "e"]
    rng = np.random.default_rng(1)
    many = {str(i): (float(x), float(y)) for i, (x, y) in enumerate(rng.random((60, 2)))}
    front = sorted(pareto_front(many), key=lambda name: many[name])
    ys = [many[name][1] for name in front]
    assert ys == sorted(ys, reverse=True)
    for name in set(many) - set(front):
        assert any(all(np.array(many[f]) >= np.array(many[name])) for f in front)

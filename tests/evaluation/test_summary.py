from math import exp, sqrt

import numpy as np
import pytest

from steer.evaluation.estimate import Estimate
from steer.evaluation.summary import PARTS, harmonic_mean, pareto_front, summarise

REAL = {
    "auroc_trees": 0.6,
    "auroc_logistic": 0.5,
    "vendi_1": 40.0,
    "three_grams_equal_words": 0.8,
    "judge_gap": 0.1,
    "judge_gap_2": None,
    "near_copies": 0.0,
    "authenticity": 0.5,
}


def row(**changed: float | None) -> dict[str, Estimate]:
    reasons = {"judge_gap": "no judge: name one"}
    return {
        key: Estimate(value, reason=reasons.get(key) if value is None else None)
        for key, value in (REAL | changed).items()
    }


def scores(**changed: float | None) -> dict[str, float | None]:
    return {key: each.value for key, each in summarise(row(**changed), row()).items()}


def test_real_texts_score_one_on_all() -> None:
    assert scores() == dict.fromkeys((*PARTS, "summary"), pytest.approx(1))


def test_by_hand() -> None:
    found = scores(
        auroc_trees=0.7,
        auroc_logistic=0.75,
        vendi_1=10,
        three_grams_equal_words=0.9,
        judge_gap=-0.6,
        near_copies=0.2,
        authenticity=0.4,
    )
    expected = [(0.3 / 0.4 + 0.25 / 0.5) / 2, sqrt(10 / 40 * 1), exp(-0.5), 0.8 * 0.8]
    assert [found[key] for key in PARTS] == pytest.approx(expected)
    assert found["summary"] == pytest.approx(4 / sum(1 / value for value in expected))


@pytest.mark.parametrize("gap", [0.6, -0.6])
def test_likelier_than_real_is_as_far_off_as_less_likely(gap: float) -> None:
    assert scores(judge_gap=gap)["coherence_score"] == pytest.approx(exp(-0.5))


def test_two_judges_are_averaged() -> None:
    found = summarise(row(judge_gap=-0.6, judge_gap_2=0.2), row(judge_gap_2=-0.2))
    assert found["coherence_score"].value == pytest.approx((exp(-0.5) + 1) / 2)


def test_better_than_real_is_not_more_than_one() -> None:
    found = scores(vendi_1=99, three_grams_equal_words=1, auroc_trees=0.4, authenticity=0.9)
    assert found["summary"] == pytest.approx(1)


def test_an_adversary_worse_than_chance_cannot_tell_either() -> None:
    real = row(auroc_trees=0.4)
    assert summarise(row(auroc_trees=0.5), real)["fidelity_score"].value == pytest.approx(1)


def test_a_part_of_zero_makes_the_summary_zero() -> None:
    assert scores(authenticity=0)["summary"] == 0
    assert scores(near_copies=1)["non_copying_score"] == 0


def test_without_a_judge_the_summary_is_over_the_others() -> None:
    blind = row(judge_gap=None)
    found = summarise(blind | row(judge_gap=None, authenticity=0.25), blind)
    assert found["coherence_score"] == Estimate(None, reason="no judge: name one")
    assert found["summary"].value == pytest.approx(3 / (1 + 1 + 2))
    assert found["summary"].reason == "without coherence"


def test_what_cannot_be_compared_has_no_value() -> None:
    found = summarise(row(auroc_trees=None), row())
    assert found["fidelity_score"].value is None and found["fidelity_score"].reason
    assert found["summary"].reason == "without fidelity"
    assert summarise(row(), row(near_copies=1))["non_copying_score"].value is None


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

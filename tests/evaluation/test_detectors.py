from itertools import count
from math import sqrt

import numpy as np
import pytest

from steer.data import folds
from steer.evaluation import detectors
from steer.evaluation.detectors import DETECTORS, STACK, Detection, Sides, auroc_interval, detect
from steer.evaluation.estimate import draws
from tests.evaluation import language

EMBEDDER = language.StubEmbedder()


def sides(own: list[str], real: list[str], readings: np.ndarray | None = None) -> Sides:
    texts = [*own, *real]
    return Sides(texts, EMBEDDER.embed(texts), readings)


def aurocs(*given, seed: int = 0) -> dict[str, float]:
    return {name: found.auroc for name, found in detect(sides(*given), 5, seed).items()}


def scored(scores: list[float], labels: list[int], *tests: list[int]) -> Detection:
    split = [np.array(test) for test in tests]
    return detectors._tested(np.array(scores), np.array(labels), split, (2, 2))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3, 4, 1, 2], 1.0),
        ([1, 2, 3, 4], 0.0),
        ([2, 4, 1, 3], 3 / 4),
        ([1, 1, 1, 1], 1 / 2),
        ([2, 1, 1, 0], (1 + 1 + 1 / 2 + 1) / 4),
    ],
)
def test_auroc_of_known_scores(scores: list[float], expected: float) -> None:
    from sklearn.metrics import roc_auc_score

    labels = [1, 1, 0, 0]
    found = scored(scores, labels, [0, 1, 2, 3])
    assert found.auroc == pytest.approx(expected) == roc_auc_score(labels, scores)
    assert found.reference.mean() == pytest.approx(expected)


def test_scores_are_compared_within_a_fold_only() -> None:
    labels = [1, 1, 0, 0]
    found = scored([2, 11, 1, 10], labels, [0, 2], [1, 3])
    assert found.auroc == 1.0
    assert list(found.own) == [1, 1] and list(found.reference) == [1, 1]


def test_texts_of_no_fold_do_not_count() -> None:
    found = scored([2, np.nan, 1, np.nan, 4, 3], [1, 1, 0, 0, 1, 0], [0, 2], [4, 5])
    assert found.auroc == 1.0
    assert np.isnan(found.own[1]) and np.isnan(found.reference[1])
    assert np.isfinite(found.sampled(draws(3, 100, 0, "row")).samples).all()


def naive_interval(auroc: float, n: int, m: int) -> tuple[float, float]:
    """Every AUROC of a fine grid that is within 1.96 of its own standard errors."""
    grid = np.linspace(0, 1, 200_001)[1:-1]
    more = (n + m) / 2 - 1
    pairs = 1 + more * (1 - grid) / (2 - grid) + more * grid / (1 + grid)
    errors = np.sqrt(grid * (1 - grid) * pairs / (n * m))
    inside = grid[np.abs(grid - auroc) <= 1.96 * errors]
    return inside.min(), inside.max()


@pytest.mark.parametrize("n", [10, 60, 500])
@pytest.mark.parametrize("auroc", [0.03, 0.5, 0.62, 0.97])
def test_the_interval_solves_newcombes_equation(auroc: float, n: int) -> None:
    assert auroc_interval(auroc, n, n + 7) == pytest.approx(
        naive_interval(auroc, n, n + 7), abs=1e-4
    )


@pytest.mark.parametrize(("auroc", "place"), [(0.0, 1), (1.0, 0)])
def test_the_interval_is_not_empty_where_a_detector_is_never_wrong(
    auroc: float, place: int
) -> None:
    found = auroc_interval(auroc, 20, 20)
    assert found[1 - place] == auroc
    assert found[place] == pytest.approx(naive_interval(auroc, 20, 20)[place], abs=1e-4)
    assert abs(found[place] - auroc) > 0.05


def test_an_auroc_that_is_worse_than_chance_has_the_interval_turned_round() -> None:
    low, high = auroc_interval(0.3, 40, 40)
    assert auroc_interval(0.7, 40, 40) == pytest.approx((1 - high, 1 - low))


def test_the_interval_in_the_middle_is_the_usual_one() -> None:
    # At 0.5 the variance of the Mann-Whitney statistic is (n + m + 1) / 12nm.
    low, high = auroc_interval(0.5, 400, 400)
    assert high - low == pytest.approx(2 * 1.96 * sqrt(801 / 12) / 400, rel=0.01)


def test_the_same_texts_on_both_sides_cannot_be_told_apart() -> None:
    some = language.texts(40, 0)
    assert set(aurocs(some, some).values()) == {0.5}


def test_nothing_to_tell_is_near_one_half_on_average() -> None:
    found: dict[str, list[float]] = {}
    for seed in range(6):
        own, real = language.texts(60, 2 * seed), language.texts(60, 2 * seed + 1)
        for name, each in aurocs(own, real).items():
            found.setdefault(name, []).append(each)
    assert STACK in found
    for values in found.values():
        assert np.mean(values) == pytest.approx(0.5, abs=0.09)


def test_nothing_of_a_fold_is_in_its_own_scores() -> None:
    """Two texts of one fold change sides: the stack says the same of that fold, weights and all."""
    draw = np.random.default_rng(0)
    views = [draw.normal(size=(60, 4)) for _ in range(3)]
    split = np.array_split(draw.permutation(60), 5)

    def stacked(labels: np.ndarray) -> np.ndarray:
        score = [detectors._linear(view @ view.T, labels, 1.0) for view in views]
        held_out = [detectors._held_out(each, labels, split) for each in score]
        return detectors._stack(score, held_out, labels, split)

    labels = np.arange(60) % 2
    turned = labels.copy()
    turned[split[0]] = 1 - turned[split[0]]
    before, after = stacked(labels), stacked(turned)
    assert (before[split[0]] == after[split[0]]).all()
    assert (before[split[1]] != after[split[1]]).any()


def noise(n: int, shift: float = 0.0) -> np.ndarray:
    """Figures of a judge that say nothing but, by `shift`, which side a text is of."""
    rows = np.random.default_rng(5).normal(size=(2 * n, 5))
    rows[:n, 0] += shift
    return rows


def test_the_stack_is_near_the_best_where_one_sees_what_others_do_not() -> None:
    own, real = language.texts(100, 0), language.texts(100, 1)
    found = aurocs(own, real, noise(100, shift=2.5))
    assert list(found) == [*DETECTORS, STACK]
    assert found["likelihood"] > 0.93
    assert max(found[name] for name in DETECTORS[:-1]) < 0.7
    assert found[STACK] > found["likelihood"] - 0.03


def test_readings_that_tell_nothing_hardly_cost_anything() -> None:
    own, real = language.texts(80, 0, temperature=4), language.texts(80, 1)
    assert aurocs(own, real, noise(80))[STACK] > aurocs(own, real)[STACK] - 0.05


def test_both_tails_of_a_likelihood_tell() -> None:
    rows = noise(100)
    rows[:100] *= 0.1
    own, real = language.texts(100, 0), language.texts(100, 1)
    assert aurocs(own, real, rows)["likelihood"] > 0.9


def test_a_detector_that_is_wrong_is_not_turned_round() -> None:
    labels = np.repeat([1, 0], 40)
    right = labels + np.random.default_rng(0).normal(size=80)
    weights = detectors._weights(np.stack([right, -right, right * 0], axis=1), labels)
    assert weights[0] > 0 and weights[1] == 0


def test_repeated_texts_are_not_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    # 20 texts like the real ones, six times each: only a text in both the fitted and the tested
    # part gives the set away.
    own, real = language.texts(20, 0) * 6, language.texts(120, 1)
    honest = detect(sides(own, real), 5, 0)[STACK]
    monkeypatch.setattr(folds, "fold", lambda text: str(next(numbers)))
    monkeypatch.setattr(folds.NearIndex, "find_all", lambda self, text: [])
    numbers = count()
    leaking = detect(sides(own, real), 5, 0)[STACK]
    assert leaking.auroc > 0.9
    assert honest.auroc < leaking.auroc - 0.15
    assert honest.distinct == (20, 120) and leaking.distinct == (120, 120)
    assert np.diff([honest.estimate.low, honest.estimate.high]) > 0.2


def test_one_text_repeated_leaves_nothing_to_test() -> None:
    assert detect(sides(language.texts(1, 0) * 30, language.texts(30, 1)), 5, 0) == {}


def test_two_texts_repeated_are_tested_on_two_folds() -> None:
    found = detect(sides(language.texts(2, 0) * 15, language.texts(30, 1)), 5, 0)
    assert found[STACK].distinct == (2, 30)
    assert np.isfinite(found[STACK].auroc)


def marks(n: int) -> list[str]:
    """Texts without a word: eight random marks each."""
    return ["".join(row) for row in np.random.default_rng(0).choice(list("?!.,;:-()#"), (n, 8))]


@pytest.mark.parametrize(
    ("texts", "blind"),
    [(marks(40), "words"), ([chr(0x4E00 + i) for i in range(40)], "characters")],
    ids=["no words", "nothing shared"],
)
def test_texts_without_a_gram_tell_nothing_by_grams(texts: list[str], blind: str) -> None:
    found = aurocs(texts[:20], texts[20:])
    assert found[blind] == 0.5
    assert np.isfinite(list(found.values())).all()


def test_the_same_seed_gives_the_same_figures() -> None:
    given = language.texts(30, 0), language.texts(30, 1, temperature=3)
    assert aurocs(*given, seed=1) == aurocs(*given, seed=1)
    assert aurocs(*given, seed=1) != aurocs(*given, seed=2)


def test_the_bootstrap_is_as_wide_as_the_formula() -> None:
    own, real = language.texts(120, 0, temperature=2.5), language.texts(120, 1)
    found = detect(sides(own, real), 5, 0)["words"]
    sampled = found.sampled(draws(120, 1000, 0, "row")).estimate
    assert 0.6 < found.auroc < 0.99
    assert sampled.value == pytest.approx(found.auroc)
    formula = found.estimate.high - found.estimate.low
    assert sampled.high - sampled.low == pytest.approx(formula, rel=0.35)


def test_intervals_are_wider_as_other_texts_would_have_made_other_classifiers() -> None:
    # With two folds the variance is 1 + 2 / (2 - 1) times that of classifiers as they are.
    found = scored([2, 1, 1, 0] * 2, [1, 0, 1, 0] * 2, [0, 1, 2, 3], [4, 5, 6, 7])
    drawn = draws(4, 500, 0, "row")
    fixed = drawn.of(found.auroc, found.own, found.reference).samples.var()
    assert found.sampled(drawn).samples.var() == pytest.approx(3 * fixed)
    assert (found.estimate.low, found.estimate.high) == auroc_interval(found.auroc, 2 / 3, 2 / 3)


def test_the_interval_holds_one_half_for_real_texts() -> None:
    held = []
    for seed in range(12):
        own, real = language.texts(40, 2 * seed), language.texts(40, 2 * seed + 1)
        found = detect(sides(own, real), 3, 0)[STACK].estimate
        held.append(found.low <= 0.5 <= found.high)
    assert sum(held) >= 10

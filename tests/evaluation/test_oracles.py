"""What an evaluation says of sets whose truth is known, in a small language."""

import numpy as np
import pytest

from steer.evaluation.estimate import Estimate
from steer.evaluation.evaluate import evaluate
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.summary import PARTS
from steer.evaluation.table import Evaluation
from tests.evaluation import language

N = 80
REAL, TRAIN, FRESH = language.texts(2 * N, 0), language.texts(N, 1), language.texts(N, 2)
JUDGE = language.PairJudge("pairs", language.texts(2000, 3))
SETTINGS = EvaluationSettings(mauve_seeds=0, bootstrap=200, folds=3, judges=("pairs",), cache=False)


@pytest.fixture(autouse=True, scope="module")
def _models():
    with pytest.MonkeyPatch.context() as patch:
        where = "steer.evaluation.evaluate."
        patch.setattr(f"{where}load_judge", lambda *given: JUDGE)
        patch.setattr(f"{where}load_embedder", lambda *given: language.StubEmbedder())
        yield


def measured(real: list[str] = REAL, **sets: list[str]) -> Evaluation:
    return evaluate(sets, real, train=TRAIN, settings=SETTINGS)


@pytest.fixture(scope="module")
def table(_models: None) -> Evaluation:
    return measured(
        fresh=FRESH,
        copy=TRAIN,
        same=FRESH[:1] * N,
        shuffled=language.shuffled(FRESH),
        replaced=language.replaced(FRESH),
        tail=language.texts(N, 4, temperature=3),
        sharp=language.texts(N, 5, temperature=0.6),
    )


def estimate(result: Evaluation, row: str, key: str) -> Estimate:
    return {each.name: each for each in result.rows}[row].estimates[key]


def holds(found: Estimate, value: float) -> bool:
    return found.low <= value <= found.high


def failed(result: Evaluation, row: str) -> set[str]:
    """Parts of the summary that are missing or clearly below the ceiling."""
    found = {key: estimate(result, row, key) for key in PARTS}
    return {key for key, each in found.items() if each.value is None or each.value < 0.6}


@pytest.mark.parametrize("row", ["real", "fresh"])
@pytest.mark.parametrize("key", [*PARTS, "summary"])
def test_fresh_real_texts_are_within_their_interval_of_the_ceiling(
    table: Evaluation, row: str, key: str
) -> None:
    assert holds(estimate(table, row, key), 1.0)


def test_the_row_of_real_texts_is_measured_and_not_one_by_definition(table: Evaluation) -> None:
    found = estimate(table, "real", "summary")
    assert found.value != 1 and found.low < found.value < found.high


def test_the_ceiling_is_near_one_whatever_the_draw() -> None:
    found = []
    for seed in range(10, 14):
        real = language.texts(2 * N, seed)
        result = measured(real, fresh=language.texts(N, seed + 100))
        found += [estimate(result, row, "summary") for row in ("fresh", "real")]
    assert np.mean([each.value for each in found]) == pytest.approx(1, abs=0.05)
    assert sum(holds(each, 1.0) for each in found) >= 6


def test_a_perfect_copy_fails_on_copying_alone(table: Evaluation) -> None:
    assert failed(table, "copy") == {"non_copying_score"}
    assert estimate(table, "copy", "too_close").value == 1
    assert estimate(table, "copy", "summary").value == 0


def test_one_text_repeated_fails_on_diversity_alone(table: Evaluation) -> None:
    # It cannot be detected: one text cannot be in both what is fitted on and what is tested.
    assert failed(table, "same") == {"diversity_score", "fidelity_score"}
    assert estimate(table, "same", "fidelity_score").value is None
    assert estimate(table, "same", "diversity_score").value < 0.1
    assert estimate(table, "same", "summary").reason == "without fidelity"


@pytest.mark.parametrize("row", ["shuffled", "replaced", "tail"])
def test_noise_comes_out_far_from_real_texts(table: Evaluation, row: str) -> None:
    # The 5th percentile of 80 reference texts is itself rough, so this share has a wide interval.
    assert estimate(table, row, "nonsense").value > 3 * estimate(table, "real", "nonsense").high
    for key in ("coherence_score", "summary"):
        assert estimate(table, row, key).high < estimate(table, "real", key).low
    assert estimate(table, row, "auroc").low > 0.6


def test_sharpened_texts_are_not_better_than_real_ones(table: Evaluation) -> None:
    # Less nonsense than real texts have, and yet no better: it is too likely.
    assert estimate(table, "sharp", "nonsense").value <= estimate(table, "real", "nonsense").value
    assert estimate(table, "sharp", "likelihood_distance").low > 0
    assert estimate(table, "sharp", "judge_gap").low > 0
    for key in ("fidelity_score", "diversity_score", "coherence_score", "summary"):
        assert estimate(table, "sharp", key).value < estimate(table, "real", key).value
    assert estimate(table, "sharp", "summary").high < 1


def test_differences_say_the_same(table: Evaluation) -> None:
    apart = {(each.one, each.other): each for each in table.differences}
    assert len(apart) == 8 * 7 / 2
    assert not apart["fresh", "real"].beyond
    for row in ("shuffled", "replaced", "tail", "sharp"):
        assert apart["fresh", row].beyond and apart["fresh", row].value > 0
        assert apart[row, "real"].beyond and apart[row, "real"].value < 0
    assert table.verdict.startswith("by the summary, fresh is ahead of ")
    assert "not told apart from real texts" in table.verdict


def test_rows_have_equal_n() -> None:
    result = measured(few=FRESH[:20], many=language.texts(300, 7))
    assert result.n == 20
    assert {sum(counts) for counts in result.histogram.counts.values()} == {20}


def test_the_order_of_texts_changes_nothing() -> None:
    def mixed(texts: list[str]) -> list[str]:
        return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]

    some = language.texts(60, 6, temperature=1.5)
    result = evaluate({"some": some}, REAL, train=TRAIN, settings=SETTINGS)
    again = evaluate({"some": mixed(some)}, mixed(REAL), train=mixed(TRAIN), settings=SETTINGS)
    assert result == again


@pytest.mark.parametrize(
    "texts",
    [FRESH[:10], ["!?" * (i % 3 + 1) for i in range(10)], [chr(0x1F600 + i) for i in range(10)]],
    ids=["fewest", "marks", "emoji"],
)
def test_the_fewest_texts_and_texts_without_words_are_measured(texts: list[str]) -> None:
    result = measured(REAL[:20], some=texts, other=FRESH[10:20])
    for row in result.rows:
        for key, each in row.estimates.items():
            assert each.value is not None or each.reason, (row.name, key)
            if each.low is not None:
                assert np.isfinite([each.value, each.low, each.high]).all(), (row.name, key)
    assert estimate(result, "other", "three_grams_equal_words").value is not None
    assert 0 < estimate(result, "other", "summary").value < 2


def test_texts_without_words_on_both_sides_are_measured() -> None:
    marks = ["".join(row) for row in np.random.default_rng(0).choice(list("?!.,;:-#"), (60, 8))]
    result = evaluate({"marks": marks[:20]}, marks[20:], settings=SETTINGS)
    assert estimate(result, "marks", "words_mean").value == 0
    assert estimate(result, "marks", "three_grams").reason == "no text has 3 words"
    assert estimate(result, "marks", "auroc").value is not None

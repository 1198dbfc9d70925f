"""A selector of texts whose true ratio is known."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.known import OTHER, REAL, GroupEmbedder, log_ratio, texts
from steer.correction.correct import Corrected, correct
from steer.correction.selector import LEAST, LEAST_LENGTHS, Sample, Selector
from steer.errors import SteerError

REAL_TEXTS, OTHERS = texts(REAL, 400, 1), texts(OTHER, 900, 2)
FRESH = texts(REAL, 600, 3)


@pytest.fixture(scope="module")
def selector() -> Selector:
    return Selector.fit(REAL_TEXTS, OTHERS, embedder=GroupEmbedder())


@pytest.fixture(scope="module")
def corrected() -> Corrected:
    return correct(OTHERS, REAL_TEXTS, 300, embedder=GroupEmbedder())


def told_apart(some: list[str] | tuple[str, ...]) -> float:
    """How well the best of all detectors tells fresh real texts from these."""
    ratios = log_ratio([*FRESH, *some])
    return float(roc_auc_score(np.arange(len(ratios)) < len(FRESH), ratios))


def test_scores_go_with_the_true_ratio(selector: Selector) -> None:
    for scores, some in (
        (selector.candidate_scores, OTHERS),
        (selector.real_scores, REAL_TEXTS),
        (selector.score(FRESH), FRESH),
    ):
        assert np.corrcoef(scores, log_ratio(some))[0, 1] > 0.6
    assert selector.score(FRESH).mean() == pytest.approx(selector.real_scores.mean(), abs=0.15)
    assert 0.6 < selector.detectability < told_apart(OTHERS)


def test_the_accepted_are_harder_to_tell_from_real_texts(corrected: Corrected) -> None:
    assert len(corrected.texts) == len(set(corrected.rows)) == 300
    assert [OTHERS[row] for row in corrected.rows] == list(corrected.texts)
    before, after = told_apart(OTHERS), told_apart(corrected.texts)
    assert before > 0.7 and after - 0.5 < 0.6 * (before - 0.5)
    figures = corrected.correction
    assert figures.before is not None and figures.after is not None
    assert figures.after < figures.before


def test_real_texts_as_candidates_are_hardly_changed() -> None:
    took = correct(texts(REAL, 900, 7), REAL_TEXTS, 300, embedder=GroupEmbedder())
    assert took.correction.effective > 0.9
    assert took.correction.exponent == 1
    assert told_apart(took.texts) == pytest.approx(0.5, abs=0.04)


def test_order_changes_nothing(selector: Selector, corrected: Corrected) -> None:
    order = np.random.default_rng(0).permutation(900)
    shuffled = [OTHERS[row] for row in order]
    again = Selector.fit(REAL_TEXTS[::-1], shuffled, embedder=GroupEmbedder())
    assert np.array_equal(again.candidate_scores, selector.candidate_scores[order])
    assert np.array_equal(again.real_scores, selector.real_scores[::-1])
    assert again.detectability == selector.detectability
    chosen = correct(shuffled, REAL_TEXTS[::-1], 300, embedder=GroupEmbedder())
    assert sorted(chosen.texts) == sorted(corrected.texts)


def test_the_seed_decides(corrected: Corrected) -> None:
    again = correct(OTHERS, REAL_TEXTS, 300, embedder=GroupEmbedder())
    assert again == corrected
    other = correct(OTHERS, REAL_TEXTS, 300, embedder=GroupEmbedder(), seed=1)
    assert 90 < len(set(other.rows) - set(corrected.rows)) < 250


def test_a_text_that_was_fitted_on_is_scored_by_the_models_that_did_not(
    selector: Selector,
) -> None:
    assert np.array_equal(selector.score(OTHERS), selector.candidate_scores)
    loud = [text.upper() + "  " for text in REAL_TEXTS[:20]]
    assert selector.score(loud) == pytest.approx(selector.real_scores[:20], abs=0.3)
    assert selector.score([]).shape == (0,)


def test_equal_texts_in_both_samples_are_worth_nothing_either_way() -> None:
    """What is in both as often is scored near 0, though it could be learnt by heart."""
    both = texts(REAL, 150, 4)
    selector = Selector.fit(both + REAL_TEXTS, both + texts(REAL, 400, 5), embedder=GroupEmbedder())
    assert np.abs(selector.real_scores[:150]).mean() < 0.15


def test_further_scalars_count() -> None:
    """Nothing in the texts tells them apart; a given number does."""
    real, candidates = texts(REAL, 300, 5), texts(REAL, 300, 6)
    rng = np.random.default_rng(0)
    given = rng.normal(1, 1, (300, 1)), rng.normal(0, 1, (300, 1))
    given[0][:50] = np.nan
    selector = Selector.fit(
        Sample(real, given=given[0]), Sample(candidates, given=given[1]), embedder=GroupEmbedder()
    )
    assert selector.detectability > 0.65
    assert np.isnan(selector.real_scores[:50]).all()
    assert np.corrcoef(selector.candidate_scores, given[1][:, 0])[0, 1] > 0.8
    with pytest.raises(SteerError, match="found 0 scalars given of each text"):
        selector.score(FRESH)
    with pytest.raises(SteerError, match="of one sample"):
        Selector.fit(real, Sample(candidates, given=given[1]), embedder=GroupEmbedder())


def of_lengths(mean: float, count: int, seed: int) -> list[str]:
    """Different texts whose log lengths have this mean, and a standard deviation of 0.4."""
    draw = np.random.default_rng(seed)
    sizes = np.exp(draw.normal(mean, 0.4, count)).astype(int)
    return ["".join(draw.choice(list("abcdef "), size)) for size in sizes]


class NoEmbedder:
    name = "no"

    def embed(self, texts):
        raise AssertionError("by length nothing is embedded")


@pytest.mark.parametrize(("real", "made"), [(LEAST_LENGTHS, 60), (60, LEAST_LENGTHS), (300, 900)])
def test_by_length_the_ratio_is_that_of_the_lengths(real: int, made: int) -> None:
    """It is linear in the log of the length where the two spread alike."""
    samples = of_lengths(6.0, real, 1), of_lengths(5.5, made, 2)
    selector = Selector.fit(*samples, embedder=NoEmbedder(), by="length")
    fresh = of_lengths(5.75, 200, 3)
    logs = np.log([len(text) for text in fresh])
    true = (logs - 5.75) * 0.5 / 0.4**2
    scores = selector.score(fresh)
    assert np.corrcoef(scores, true)[0, 1] > 0.85
    assert selector.detectability > 0.6
    if real == 300:
        assert np.abs(scores - true).mean() < 0.3


def test_by_length_nothing_but_the_length_counts() -> None:
    selector = Selector.fit(of_lengths(6.0, 60, 1), of_lengths(5.5, 60, 2), by="length")
    one, other = selector.score(["a" * 300, "xyz" * 100])
    assert one == other


def test_by_length_what_cannot_be_done_is_said() -> None:
    made = of_lengths(5.5, 60, 2)
    with pytest.raises(SteerError, match=r"found 19 different real texts.* fewer than 20"):
        Selector.fit(of_lengths(6.0, LEAST_LENGTHS - 1, 1), made, by="length")
    given = np.zeros((60, 1))
    with pytest.raises(SteerError, match="by length alone"):
        Selector.fit(Sample(made, given=given), Sample(made, given=given), by="length")


@pytest.mark.parametrize(
    ("candidates", "real", "n", "message"),
    [
        (OTHERS, REAL_TEXTS[: LEAST - 1], 10, "found 99 different real texts"),
        (OTHERS, REAL_TEXTS[:50] * 10, 10, "found 50 different real texts"),
        (OTHERS[:20], REAL_TEXTS, 10, "found 20 different candidates"),
        (OTHERS, REAL_TEXTS, 901, "there are 900 candidates"),
        (OTHERS, REAL_TEXTS, 0, "n is 0"),
    ],
)
def test_what_cannot_be_done_is_said(
    candidates: list[str], real: list[str], n: int, message: str
) -> None:
    with pytest.raises(SteerError, match=message):
        correct(candidates, real, n, embedder=GroupEmbedder())


def test_texts_that_are_variants_of_each_other_can_be_compared() -> None:
    """All are nearly equal, directly or through others; then only equal ones stay together."""
    start = " ".join(f"w{word}" for word in range(20))
    real = [f"{start} w{word} w{row % 60}" for row, word in enumerate(range(100, 220))]
    candidates = [f"{start} w{word} w{row % 60}" for row, word in enumerate(range(220, 340))]
    selector = Selector.fit(real, candidates, embedder=GroupEmbedder(80))
    assert np.isfinite(selector.candidate_scores).all()

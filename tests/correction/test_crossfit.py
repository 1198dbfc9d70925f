import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from steer.correction.crossfit import auroc, cross_fit, held_out_scores
from steer.correction.logistic import fit_path
from steer.data.folds import assign_folds

PENALTIES = (0.01, 0.1, 1.0, 10.0)


def normals(real: int, candidates: int, shift: float = 1.0, seed: int = 0) -> tuple:
    """Rows of two normal distributions, `shift` apart: log ratio = shift * (x - shift / 2)."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(shift, 1, real), rng.normal(0, 1, candidates)])
    return x[:, None], np.arange(real + candidates) < real


def folds(real: np.ndarray, count: int = 5) -> np.ndarray:
    order = np.random.default_rng(1).permutation(len(real))
    return assign_folds([[row] for row in order], real, count)


def fitted(x: np.ndarray, real: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    fold = folds(real)
    weights = np.ones(len(x)) if weights is None else weights
    return held_out_scores(cross_fit({"x": x}, real, weights, fold), {"x": x}, fold)


def error(scores: np.ndarray, x: np.ndarray) -> float:
    """How far the scores are from the true log ratio, on average."""
    return float(np.abs(scores - (x[:, 0] - 0.5)).mean())


def test_a_line_is_the_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(300, 7)), rng.uniform(0.5, 2, 300)
    real = x[:, 0] + rng.normal(size=300) > 0.7
    prior = np.log(weights[real].sum() / weights[~real].sum())
    for penalty, line in zip(PENALTIES, fit_path(x, real, weights, PENALTIES), strict=True):
        oracle = LogisticRegression(C=penalty, tol=1e-9).fit(x, real, sample_weight=weights)
        assert line.slope == pytest.approx(oracle.coef_[0], abs=2e-3)
        assert line.intercept == pytest.approx(oracle.intercept_[0] - prior, abs=2e-3)


@pytest.mark.parametrize(("real", "candidates"), [(1000, 1000), (300, 3000), (3000, 300)])
def test_the_ratio_does_not_depend_on_how_many_there_are(real: int, candidates: int) -> None:
    x, kind = normals(real, candidates)
    assert error(fitted(x, kind), x) < 0.2
    assert np.exp(fitted(x, kind)[~kind]).mean() == pytest.approx(1, abs=0.1)


def test_weights_count_rows() -> None:
    """Half of the real rows are of another kind, and weigh nothing."""
    x, kind = normals(2000, 1000)
    x[:1000, 0] -= 9
    weights = np.where(np.arange(3000) < 1000, 1e-9, 1.0)
    assert error(fitted(x, kind, weights)[1000:], x[1000:]) < 0.2


def test_nothing_to_tell_gives_ratios_near_one() -> None:
    x, kind = normals(300, 300, shift=0)
    assert np.abs(fitted(x, kind)).max() < 0.3


def test_a_row_is_not_scored_by_models_that_saw_it() -> None:
    """One candidate has a feature of its own. Whoever saw it knows the row; the others do not."""
    x, kind = normals(100, 100, shift=0.5)
    fold = folds(kind)
    ones = np.ones(200)
    before = held_out_scores(cross_fit({"x": x}, kind, ones, fold), {"x": x}, fold)
    for row in (0, 150):
        other = kind.copy()
        other[row] = not kind[row]
        after = held_out_scores(cross_fit({"x": x}, other, ones, fold), {"x": x}, fold)
        mine = fold == fold[row]
        assert np.array_equal(after[mine], before[mine])
        assert not np.array_equal(after[~mine], before[~mine])


def test_rows_without_features_have_no_score_and_harm_no_others() -> None:
    x, kind = normals(400, 400)
    extra = x + 0.0
    extra[:200] = np.nan
    fold = folds(kind)
    families = {"noise": np.random.default_rng(0).normal(size=x.shape), "x": extra}
    scores = held_out_scores(cross_fit(families, kind, np.ones(800), fold), families, fold)
    assert np.isnan(scores[:200]).all() and np.isfinite(scores[200:]).all()
    assert error(scores[200:], x[200:]) < 0.3
    assert 0.7 < auroc(scores, kind, fold) < 0.85


def test_areas_are_of_each_fold_by_itself() -> None:
    """Scores of one fold are all above those of another: only the order within counts."""
    scores, real = np.array([1.0, 0.0, 9.0, 8.0]), np.array([True, False, False, True])
    assert auroc(scores, real, np.array([0, 0, 1, 1])) == 0.5

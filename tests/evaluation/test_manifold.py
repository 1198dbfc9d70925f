import numpy as np
import pytest

from steer.evaluation.estimate import resample_counts
from steer.evaluation.manifold import (
    alpha_precision,
    beta_recall,
    cover,
    integrated,
    neighbour_distances,
    score,
)

LEVELS = np.linspace(0, 1, 30)


def rows(n: int, seed: int, shift: float = 0.0, spread: float = 1.0, d: int = 6) -> np.ndarray:
    found = spread * np.random.default_rng(seed).normal(size=(n, d))
    found[:, 0] += shift
    return found.astype(np.float32)


def figures(synthetic: np.ndarray, real: np.ndarray) -> dict[str, float]:
    found = cover(synthetic, real)
    return {key: float(getattr(found, key).mean()) for key in vars(found)} | {
        "alpha": float(integrated(alpha_precision(synthetic, real).mean(axis=0))),
        "beta": float(integrated(beta_recall(synthetic, real).mean(axis=0))),
    }


@pytest.mark.parametrize("shift", [0.0, 1.5, 20.0])
def test_cover_equals_the_named_package(shift: float, capsys: pytest.CaptureFixture[str]) -> None:
    prdc = pytest.importorskip("prdc")
    synthetic, real = rows(80, 1, shift, 0.7), rows(80, 0)
    expected = prdc.compute_prdc(real, synthetic, nearest_k=5)
    found = figures(synthetic, real)
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def by_the_authors(synthetic: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """The integrated scores as in the code published with arXiv 2102.08921, text by text."""
    synthetic, real = synthetic.astype(float), real.astype(float)

    def norm(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    centre, own = real.mean(axis=0), synthetic.mean(axis=0)
    radii = np.quantile([norm(r, centre) for r in real], LEVELS)
    alphas = [np.mean([norm(s, centre) <= radius for s in synthetic]) for radius in radii]
    covered, spread = [], []
    for i, r in enumerate(real):
        to_real = min(norm(r, other) for j, other in enumerate(real) if j != i)
        closest = min(synthetic, key=lambda s: norm(r, s))
        covered.append(norm(r, closest) <= to_real)
        spread.append(norm(closest, own))
    radii = np.quantile(spread, LEVELS)
    betas = [
        np.mean([c and s <= radius for c, s in zip(covered, spread, strict=True)])
        for radius in radii
    ]
    area = [np.abs(LEVELS - curve).sum() * (LEVELS[1] - LEVELS[0]) for curve in (alphas, betas)]
    return 1 - 2 * area[0], 1 - 2 * area[1]


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_alpha_and_beta_equal_the_authors_code(shift: float) -> None:
    synthetic, real = rows(40, 1, shift, 0.8), rows(40, 0)
    found = figures(synthetic, real)
    assert (found["alpha"], found["beta"]) == pytest.approx(by_the_authors(synthetic, real))


def test_a_perfect_copy() -> None:
    real = rows(200, 0)
    found = figures(real, real)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["alpha"] == pytest.approx(1, abs=0.02)
    assert found["beta"] == pytest.approx(1, abs=0.02)


def test_an_independent_half() -> None:
    found = figures(rows(600, 1), rows(600, 0))
    assert found["precision"] > 0.75 and found["recall"] > 0.75
    assert found["density"] == pytest.approx(1, abs=0.1)
    assert found["alpha"] > 0.9
    assert found["beta"] == pytest.approx(0.5, abs=0.08)


def test_one_text_repeated() -> None:
    real = rows(100, 0)
    found = figures(np.repeat(real[:1], 100, axis=0), real)
    assert found["precision"] == 1
    assert found["recall"] == 0
    assert found["coverage"] < 0.3
    assert found["alpha"] < 0.6
    assert found["beta"] < 0.1


def test_another_region_is_not_covered() -> None:
    found = figures(rows(100, 1, shift=50), rows(100, 0))
    assert {key: found[key] for key in ("precision", "recall", "density", "coverage")} == {
        "precision": 0,
        "recall": 0,
        "density": 0,
        "coverage": 0,
    }
    assert found["alpha"] == pytest.approx(0, abs=0.1)


def test_order_has_no_effect() -> None:
    synthetic, real = rows(60, 1), rows(60, 0)
    mixed = np.random.default_rng(0).permutation(60)
    assert figures(synthetic[mixed], real[mixed[::-1]]) == pytest.approx(figures(synthetic, real))


def test_a_text_is_not_its_own_neighbour() -> None:
    line = np.array([[0.0], [1.0], [3.0], [3.0]])
    assert neighbour_distances(line, 1) == pytest.approx([1, 1, 0, 0])
    assert neighbour_distances(line, 2) == pytest.approx([3, 2, 2, 2])


def test_the_interval_holds_the_score() -> None:
    inside = alpha_precision(rows(80, 1), rows(80, 0))
    found = score(inside, resample_counts(80, 200, seed=0))
    assert found.value == pytest.approx(float(integrated(inside.mean(axis=0))))
    assert found.low < found.value + 0.01 and found.value <= found.high + 0.01
    assert found.low < found.high

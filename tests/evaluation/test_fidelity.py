from itertools import permutations

import numpy as np
import pytest

from steer.evaluation.estimate import resample_counts
from steer.evaluation.fidelity import (
    mauve_installed,
    mauve_score,
    mean_cosines,
    self_cosine,
)


def unit_rows(n: int, seed: int, shift: float = 0.0, d: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    rows[:, 0] += shift
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_mean_cosines_by_hand() -> None:
    real = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.allclose(mean_cosines(np.array([[1.0, 0.0], [0.6, 0.8]]), real), [0.5, 0.7])


def test_self_cosine_leaves_out_each_text_with_itself() -> None:
    rows = unit_rows(12, seed=0)
    pairs = [float(rows[i] @ rows[j]) for i, j in permutations(range(12), 2)]
    found = self_cosine(rows, resample_counts(12, 100, seed=0))
    assert found.value == pytest.approx(np.mean(pairs), abs=1e-6)


def test_self_cosine_of_a_bootstrap_sample_equals_its_pairs() -> None:
    rows = unit_rows(6, seed=1)
    counts = np.array([[2, 0, 1, 1, 2, 0]])
    sample = np.repeat(np.arange(6), counts[0])
    pairs = [float(rows[i] @ rows[j]) for i, j in permutations(sample, 2) if i != j]
    # Pairs of a text with itself: 2 * 2 - 2 for each text drawn twice.
    assert len(pairs) == 30 - 4
    assert self_cosine(rows, counts).low == pytest.approx(np.mean(pairs), abs=1e-6)


def test_self_cosine_of_one_text_repeated_is_one() -> None:
    found = self_cosine(np.repeat(unit_rows(1, seed=0), 30, axis=0), resample_counts(30, 100, 0))
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)


needs_mauve = pytest.mark.skipif(not mauve_installed(), reason="mauve-text is not installed")


@needs_mauve
def test_mauve_of_a_copy_and_of_another_distribution(capfd) -> None:
    rows = unit_rows(200, seed=0)
    assert mauve_score(rows, rows, seed=0) == pytest.approx(1.0, abs=1e-3)
    assert mauve_score(unit_rows(200, seed=1), rows, seed=0) > 0.8
    assert mauve_score(unit_rows(200, seed=1, shift=8), rows, seed=0) < 0.3
    assert capfd.readouterr() == ("", "")


@needs_mauve
def test_mauve_depends_on_its_seed_alone() -> None:
    rows, real = unit_rows(200, seed=1), unit_rows(200, seed=0)
    assert mauve_score(rows, real, seed=1) == mauve_score(rows, real, seed=1)
    assert len({mauve_score(rows, real, seed) for seed in range(4)}) > 1

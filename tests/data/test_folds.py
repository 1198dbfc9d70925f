import numpy as np
import pytest

from steer.data.folds import assign_folds, split_folds
from tests.evaluation import language

TEXT = "do massive stars lose most of their mass before they explode as supernovae"


def groups(texts: list[str]) -> np.ndarray:
    real = np.arange(len(texts)) % 2 == 0
    return split_folds(texts, real, 2, 0, least=0).groups


def test_near_duplicates_are_one_group() -> None:
    near = [TEXT.upper(), TEXT.replace("massive", "massive,")]
    found = groups([TEXT, "a recipe for bread", *near, "bread"])
    assert found[0] == found[2] == found[3]
    assert len(set(found)) == 3


def test_near_duplicates_hang_together_through_others() -> None:
    words = TEXT.split()
    chain = [" ".join([*words, *(f"more{i}" for i in range(n))]) for n in range(6)]
    assert len(set(groups(chain))) == 1
    assert len(set(groups([chain[0], chain[-1]]))) == 2


def test_groups_do_not_depend_on_the_order() -> None:
    texts = [*language.texts(20, 0), *language.texts(20, 0)]
    order = np.random.default_rng(0).permutation(40)
    before, after = groups(texts), groups([texts[i] for i in order])
    assert ((before[order][:, None] == before[order]) == (after[:, None] == after)).all()


def test_groups_stay_in_one_fold_and_kinds_are_spread() -> None:
    texts = [text for text in language.texts(20, 0) for _ in range(4)]
    real = np.arange(80) < 40
    found = split_folds(texts, real, 5, seed=3)
    for number in set(found.groups):
        assert len(set(found.placed[found.groups == number])) == 1
    for kind in (real, ~real):
        assert np.bincount(found.placed[kind], minlength=5) == pytest.approx(8, abs=4)


def test_variants_of_one_text_are_kept_together_only_where_equal() -> None:
    variants = [f"{TEXT} {number}" for number in range(20)]
    found = split_folds([*variants, *variants], np.arange(40) < 20, 5, 0)
    assert len(set(found.groups)) == 20
    assert (np.bincount(found.placed) == 8).all()
    assert (found.placed[:20] == found.placed[20:]).all()


def test_groups_stay_together_and_samples_are_spread_evenly() -> None:
    real = np.arange(90) % 3 == 0
    groups = [list(range(first, first + 3)) for first in range(0, 90, 3)]
    fold = assign_folds(groups, real, 5)
    assert all(len(set(fold[group])) == 1 for group in groups)
    assert {real[fold == number].sum() for number in range(5)} == {6}

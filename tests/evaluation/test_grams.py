"""N-grams are counted as scikit-learn counts them."""

import random

import numpy as np
import pytest

from steer.evaluation.grams import character_counts

TEXTS = ["an ox", "an  \n ox, an axe", "日本語の文", "", "half \ud83d", "\U0001f600 an"]
LETTERS = "ab \n日\U0001f600"
DRAW = random.Random(0)
MADE = ["".join(DRAW.choices(LETTERS, k=DRAW.randrange(12))) for _ in range(200)]


@pytest.mark.parametrize("texts", [TEXTS, MADE, MADE[:2], TEXTS[:1]], ids=len)
@pytest.mark.parametrize(("longest", "least"), [(5, 2), (3, 1), (1, 1)])
def test_as_a_count_vectorizer(texts: list[str], longest: int, least: int) -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    reference = CountVectorizer(
        analyzer="char", ngram_range=(1, longest), lowercase=False, min_df=min(least, len(texts))
    ).fit_transform(texts)
    counts = character_counts(texts, longest, min(least, len(texts)))
    assert counts.shape == reference.shape
    assert np.array_equal(_sorted(counts), _sorted(reference))


def _sorted(counts: object) -> np.ndarray:
    """Columns in one order."""
    dense = counts.toarray()  # type: ignore[attr-defined]
    return dense[:, np.lexsort(dense)]


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_texts_without_any(texts: list[str]) -> None:
    assert character_counts(texts, 5, 2).shape == (len(texts), 0)

"""Character n-grams of many texts at once, counted with numpy."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_SPACES = re.compile(r"\s\s+")


def character_counts(texts: Sequence[str], longest: int, least: int) -> Any:
    """Counts the n-grams of 1 to `longest` characters that at least `least` texts have, in a sparse
    matrix (texts, n-grams).

    As scikit-learn's `CountVectorizer(analyzer="char", lowercase=False)` counts them, spaces in a
    row as one, but sooner; the columns are in another order.
    """
    from scipy.sparse import csr_matrix, hstack

    parts = []
    for rows, grams in _located([_SPACES.sub(" ", text) for text in texts], longest):
        shape = len(texts), int(grams.max(initial=-1)) + 1
        counts = csr_matrix((np.ones(len(rows)), (rows, grams)), shape)
        parts.append(counts[:, counts.getnnz(axis=0) >= least])
    return hstack(parts, format="csr")


def _located(texts: Sequence[str], longest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Finds the n-grams of each length: the text that each is in, and a number for what it is."""
    content = "".join(texts).encode("utf-32-le", errors="surrogatepass")
    letters = np.unique(np.frombuffer(content, "<u4"), return_inverse=True)[1]
    ends = np.cumsum([len(text) for text in texts])
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    left = ends[rows] - np.arange(len(rows))  # characters from here to the end of the text
    grams, size = letters, int(letters.max(initial=0)) + 1
    yield rows, grams
    places = np.arange(len(rows))
    for length in range(2, longest + 1):
        inside = left[places] >= length
        places = places[inside]
        longer = grams[inside] * size + letters[places + length - 1]
        grams = np.unique(longer, return_inverse=True)[1]
        yield rows[places], grams

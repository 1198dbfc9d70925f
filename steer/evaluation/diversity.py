"""Diversity: how varied a set of texts is. All figures fall with size: compare sets of equal
size."""

import gzip
from collections import Counter
from collections.abc import Sequence
from math import nan, prod

import numpy as np

from steer.data.words import ngrams, words

_ORDERS = (2, 3, 4)
_BLEU_ORDER = 4
_NOTHING = 1e-12


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct word n-grams of the whole set over all of them: the "normalised n-grams" of
    arXiv 2308.07645. Runs across two texts do not count, so the order of texts has no effect.
    NaN when no text has `n` words."""
    grams = [gram for text in texts for gram in ngrams(words(text), n)]
    return len(set(grams)) / len(grams) if grams else nan


def distinct_without(texts: Sequence[str], n: int) -> np.ndarray:
    """`distinct` of the set without each of its texts, (texts,): what a jackknife needs. NaN where
    the others have no n-gram."""
    grams = [Counter(ngrams(words(text), n)) for text in texts]
    owners = Counter(gram for each in grams for gram in each)
    own = np.array([sum(owners[gram] == 1 for gram in each) for each in grams])
    sizes = np.array([each.total() for each in grams])
    left = sizes.sum() - sizes
    return np.divide(len(owners) - own, left, out=np.full(len(texts), nan), where=left > 0)


def distinct_product(texts: Sequence[str]) -> float:
    """Product of `distinct` for n = 2, 3, 4 over the whole set ("diversity" of arXiv 2308.07645,
    after Su et al. 2022, arXiv 2202.06417). NaN when no text has four words."""
    return prod(distinct(texts, n) for n in _ORDERS)


def repetitions(texts: Sequence[str]) -> np.ndarray:
    """Repetition of each text within itself: 1 minus the product of its own distinct n-grams for n
    = 2, 3, 4, shape (texts,). 0 for a text that is too short to repeat anything."""
    return np.array([_repetition(words(text)) for text in texts])


def _repetition(sequence: list[str]) -> float:
    rates = (_distinct_rate(list(ngrams(sequence, n))) for n in _ORDERS)
    return 1 - prod(rates)


def _distinct_rate(grams: list[tuple[str, ...]]) -> float:
    return len(set(grams)) / len(grams) if grams else 1.0


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes of the set over its gzip size (Shaib et al. 2024, arXiv 2403.00553): higher is more
    repetitive. Texts are sorted first, so that their order has no effect and repeats lie within
    gzip's 32 KiB window."""
    data = "\n".join(sorted(texts)).encode(errors="surrogatepass")
    return len(data) / len(gzip.compress(data, compresslevel=9, mtime=0))


def vendi_score(rows: np.ndarray, order: int) -> float:
    """Vendi score, how many different texts the set is worth: the exponential of the Renyi entropy
    of `order` of the eigenvalues of X'X/n (Friedman and Dieng 2022, arXiv 2210.02410; orders:
    Pasarkar and Dieng 2023, arXiv 2310.12952). `rows` are unit embeddings (texts, d). From 1, one
    text repeated, to the smaller of texts and d; the higher the order, the less rare texts
    count."""
    rows = rows.astype(np.float64)
    gram = rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T
    values = np.linalg.eigvalsh(gram / len(rows))
    return float(np.exp(_entropy(values[values > 0], order)))


def vendi_influence(rows: np.ndarray, order: int) -> np.ndarray:
    """Influence of each text on the logarithm of the Vendi score, (texts,): the derivative by its
    weight. An eigenvalue moves by the square of the text's coordinate on its eigenvector, less the
    eigenvalue itself. Resampled texts would repeat, which lowers the score; this does not."""
    rows = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    kept = values > _NOTHING
    values, squares = values[kept], np.square(rows @ vectors[:, kept])
    if order == 1:
        slopes = -np.log(values)
    else:
        slopes = order / (1 - order) * values ** (order - 1) / (values**order).sum()
    influence: np.ndarray = squares @ slopes - values @ slopes
    return influence


def _entropy(values: np.ndarray, order: int) -> float:
    """Renyi entropy of the eigenvalues."""
    if order == 1:
        return float(-(values * np.log(values)).sum())
    return float(np.log((values**order).sum()) / (1 - order))


def self_bleus(texts: Sequence[str]) -> np.ndarray:
    """BLEU of each text against all others (Zhu et al. 2018, arXiv 1802.01886), shape (texts,):
    from 0 to 1, higher is more alike. Equal to sacrebleu's sentence BLEU with its "13a"
    tokens, exponential smoothing and effective order, in time linear in the texts: of every
    n-gram, only the two texts that have it most often matter."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.helpers import extract_all_word_ngrams

    tokenize = BLEU(effective_order=True).tokenizer
    counted = [extract_all_word_ngrams(tokenize(t.rstrip()), 1, _BLEU_ORDER) for t in texts]
    most = _most([grams for grams, _ in counted])
    sizes = np.array([size for _, size in counted])
    return np.array([_bleu(i, grams, most, sizes) for i, (grams, _) in enumerate(counted)])


def _most(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Finds for every n-gram its count in the text that has most of it, that text, and its highest
    count in any other text."""
    most: dict[tuple[str, ...], tuple[int, ...]] = {}
    for owner, grams in enumerate(counts):
        for gram, count in grams.items():
            first, who, second = most.get(gram, (0, -1, 0))
            if count > first:
                most[gram] = (count, owner, first)
            elif count > second:
                most[gram] = (first, who, count)
    return most


def _bleu(
    index: int,
    grams: Counter[tuple[str, ...]],
    most: dict[tuple[str, ...], tuple[int, ...]],
    sizes: np.ndarray,
) -> float:
    from sacrebleu.metrics.bleu import BLEU

    correct, total = [0] * _BLEU_ORDER, [0] * _BLEU_ORDER
    for gram, count in grams.items():
        first, owner, second = most[gram]
        total[len(gram) - 1] += count
        correct[len(gram) - 1] += min(count, second if owner == index else first)
    others = np.delete(sizes, index)
    away = np.abs(others - sizes[index])
    nearest = others[away == away.min()].min()  # of the two as near, the shorter one
    score = BLEU.compute_bleu(
        correct, total, int(sizes[index]), int(nearest), smooth_method="exp", effective_order=True
    )
    return float(score.score) / 100

"""The table of an evaluation: its columns, its rows, and how it is written as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steer.evaluation.differences import Difference
from steer.evaluation.estimate import Estimate

Group = Literal["length", "diversity", "fidelity", "coherence", "copying", "utility", "summary"]
Aim = Literal["higher", "lower", "as real"]

REAL = "real"
"""Name of the row of real texts."""

PLAIN, LARGE, SHARE = ".3f", ".1f", ".1%"


@dataclass(frozen=True)
class Column:
    """A metric of the table. `aim` says what is good; "as real" means close to the row of real
    texts. `format` is how a value is shown, everywhere, as Python's `format` takes it."""

    key: str
    group: Group
    title: str
    aim: Aim
    meaning: str
    format: str = PLAIN


COLUMNS = (
    Column("words_mean", "length", "words", "as real", "words in a text, mean", LARGE),
    Column("words_p10", "length", "p10", "as real", "words in a text, 10th percentile", LARGE),
    Column("words_p50", "length", "p50", "as real", "words in a text, median", LARGE),
    Column("words_p90", "length", "p90", "as real", "words in a text, 90th percentile", LARGE),
    Column(
        "distinct",
        "diversity",
        "distinct",
        "as real",
        "distinct word n-grams over all, product for n = 2, 3, 4",
    ),
    Column("three_grams", "diversity", "3-grams", "as real", "distinct word 3-grams over all"),
    Column(
        "three_grams_equal_words",
        "diversity",
        "3-grams, equal words",
        "as real",
        "the same over equally many words of every row",
    ),
    Column(
        "repetition",
        "diversity",
        "repetition",
        "as real",
        "1 minus the product of distinct n-grams within one text, n = 2, 3, 4, mean",
    ),
    Column("compression", "diversity", "compression", "as real", "bytes over gzip bytes"),
    Column(
        "cosine_self", "diversity", "cosine to itself", "as real", "mean cosine of pairs of the set"
    ),
    Column(
        "self_bleu",
        "diversity",
        "self-BLEU",
        "as real",
        "BLEU of a text against the others, mean over at most 500",
    ),
    Column(
        "vendi_1", "diversity", "Vendi, q = 1", "as real", "different texts the set is worth", LARGE
    ),
    Column(
        "vendi_2", "diversity", "Vendi, q = 2", "as real", "the same, rare texts count less", LARGE
    ),
    Column(
        "cosine_real", "fidelity", "cosine to real", "as real", "mean cosine to the reference texts"
    ),
    Column("mauve", "fidelity", "MAUVE", "higher", "MAUVE to the reference texts"),
    Column(
        "auroc",
        "fidelity",
        "detector's AUROC",
        "as real",
        "how well the detectors below, stacked, tell the set from the reference texts; 0.5: they "
        "cannot",
    ),
    Column("auroc_words", "fidelity", "AUROC, words", "as real", "the same by words and pairs"),
    Column(
        "auroc_characters",
        "fidelity",
        "AUROC, characters",
        "as real",
        "the same by runs of 1 to 5 characters",
    ),
    Column(
        "auroc_embedding", "fidelity", "AUROC, embedding", "as real", "the same by the embedding"
    ),
    Column(
        "auroc_trees",
        "fidelity",
        "AUROC, trees",
        "as real",
        "the same by boosted trees on the embedding",
    ),
    Column(
        "auroc_likelihood",
        "fidelity",
        "AUROC, likelihood",
        "as real",
        "the same by what the judge says of the tokens",
    ),
    Column(
        "precision",
        "fidelity",
        "precision",
        "as real",
        "share of the set within the neighbourhood (k = 5) of a reference text",
    ),
    Column(
        "recall",
        "fidelity",
        "recall",
        "as real",
        "share of the reference texts within the neighbourhood of one of the set",
    ),
    Column(
        "density",
        "fidelity",
        "density",
        "as real",
        "reference texts whose neighbourhood holds a text of the set, over k, mean",
    ),
    Column(
        "coverage",
        "fidelity",
        "coverage",
        "as real",
        "share of the reference texts with one of the set in their neighbourhood",
    ),
    Column(
        "alpha_precision",
        "fidelity",
        "alpha-precision",
        "as real",
        "how well the supports of the reference texts hold the shares of the set they should",
    ),
    Column(
        "beta_recall",
        "fidelity",
        "beta-recall",
        "as real",
        "the same the other way round; near 0.5 for perfect data, 1 for copies",
    ),
    Column(
        "nonsense",
        "coherence",
        "nonsense",
        "as real",
        "share that the judge finds less likely than 95% of the reference texts; real text: 5%",
        SHARE,
    ),
    Column(
        "likelihood_distance",
        "coherence",
        "likelihood distance",
        "lower",
        "Wasserstein distance of the judge's likelihoods to the reference texts', nats a token",
    ),
    Column(
        "judge_gap",
        "coherence",
        "judge's gap",
        "as real",
        "mean log-likelihood less that of the reference texts, nats a token",
    ),
    Column(
        "nonsense_2",
        "coherence",
        "nonsense, second judge",
        "as real",
        "the share by the second judge, which is not in the summary",
        SHARE,
    ),
    Column(
        "likelihood_distance_2",
        "coherence",
        "distance, second judge",
        "lower",
        "the distance by the second judge",
    ),
    Column(
        "judge_gap_2", "coherence", "gap, second judge", "as real", "the gap by the second judge"
    ),
    Column(
        "exact_copies", "copying", "exact copies", "lower", "share that are training texts", SHARE
    ),
    Column(
        "near_copies",
        "copying",
        "near copies",
        "lower",
        "share that are near or exact copies of training texts",
        SHARE,
    ),
    Column(
        "longest_run",
        "copying",
        "longest run",
        "as real",
        "words of the longest run shared with one training text, mean",
        LARGE,
    ),
    Column(
        "nearest_cosine",
        "copying",
        "nearest cosine",
        "as real",
        "cosine to the nearest training text, mean",
    ),
    # Copying and not fidelity: it is about the training texts, as the others of this group.
    Column(
        "authenticity",
        "copying",
        "authenticity",
        "as real",
        "share farther from the nearest training text than that is from the next one",
    ),
    Column(
        "too_close",
        "copying",
        "too close",
        "lower",
        "share of near copies, and of texts closer to a training text than 95% of the reference "
        "texts are; real text: 5%",
        SHARE,
    ),
    Column(
        "utility",
        "utility",
        "trained on it",
        "higher",
        "accuracy on the reference texts of a classifier trained on the set",
    ),
    Column(
        "utility_added",
        "utility",
        "real + it",
        "higher",
        "the same trained on the row of real texts and the set together",
    ),
    Column(
        "utility_network",
        "utility",
        "network trained on it",
        "higher",
        "accuracy on the reference texts of a small network trained on the set alone",
    ),
    Column(
        "utility_network_added",
        "utility",
        "network, 100 real + it",
        "higher",
        "the same with 100 real texts beside the set; in the row of real texts, these alone",
    ),
    Column(
        "fidelity_score",
        "summary",
        "fidelity",
        "as real",
        "2 (1 - the detector's AUROC)",
    ),
    Column(
        "diversity_score",
        "summary",
        "diversity",
        "as real",
        "Vendi score and 3-grams over equal words, over the reference texts'",
    ),
    Column(
        "coherence_score",
        "summary",
        "coherence",
        "as real",
        "share that is no nonsense, less the distance of likelihoods, over the reference texts'",
    ),
    Column(
        "non_copying_score",
        "summary",
        "non-copying",
        "as real",
        "share that is not too close to a training text, over the reference texts'",
    ),
    Column("summary", "summary", "summary", "higher", "harmonic mean of the four above"),
)

BRIEF = (
    "words_mean",
    "nonsense",
    "auroc",
    "diversity_score",
    "near_copies",
    "too_close",
    "utility",
    "summary",
)
"""What a newcomer reads first."""

_FORMATS = {column.key: column.format for column in COLUMNS}


def show(key: str, value: float) -> str:
    """Shows a value of the column `key`, such as "0.613", "3.8%" or "24.1"; a column that only
    another version of steer knows has three digits."""
    return format(value, _FORMATS.get(key, PLAIN))


@dataclass(frozen=True)
class Row:
    """One set of texts: an estimate for every key of `COLUMNS`, in their order."""

    name: str
    estimates: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name} | {key: e.to_json() for key, e in self.estimates.items()}


@dataclass(frozen=True)
class Histogram:
    """Numbers of texts of each row by their number of words: bin i is from `edges[i]` to below
    `edges[i + 1]`, the last one holds the long rest."""

    edges: tuple[int, ...]
    counts: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        return {"edges": list(self.edges), "counts": {k: list(v) for k, v in self.counts.items()}}


NUMBER, CATEGORY = "number", "category"
"""Kinds of columns that have a marginal."""


@dataclass(frozen=True)
class Marginal:
    """Figure of one column of records that are objects, by row: of numbers the Wasserstein distance
    over the standard deviation of the real ones, of categories the total variation distance. Lower
    is better; the row of real texts says how much is chance."""

    column: str
    kind: str
    estimates: Mapping[str, Estimate]

    @property
    def title(self) -> str:
        """Name that a table has for it."""
        return f"{self.column}: {'distance' if self.kind == NUMBER else 'share elsewhere'}"

    def to_json(self) -> dict[str, Any]:
        rows = {name: estimate.to_json() for name, estimate in self.estimates.items()}
        return {"column": self.column, "kind": self.kind, "rows": rows}


@dataclass(frozen=True)
class Evaluation:
    """Sets of texts measured against the same real texts.

    Every row has `n` texts. The last row, "real", is the ceiling: one half of the real texts
    against the other, which is what the other rows are compared with too. `differences` are those
    of all pairs of rows, and `verdict` is a sentence on which of them are more than chance.
    `notes` are plain sentences on what was cut, skipped or is not to be trusted. `judges` are in
    the order of the columns of the group "coherence": the one that counts, and one shown apart.
    `marginals` are those of records that are objects.
    """

    rows: tuple[Row, ...]
    n: int
    embedder: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    judges: tuple[str | None, ...]
    differences: tuple[Difference, ...]
    verdict: str
    histogram: Histogram
    marginals: tuple[Marginal, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Gives plain values for `json.dumps`: settings, notes, columns and rows."""
        return {
            "n": self.n,
            "embedder": self.embedder,
            "judges": list(self.judges),
            "settings": dict(self.settings),
            "verdict": self.verdict,
            "differences": [asdict(each) for each in self.differences],
            "notes": list(self.notes),
            "columns": [asdict(column) for column in COLUMNS],
            "rows": [row.to_json() for row in self.rows],
            "histogram": self.histogram.to_json(),
            "marginals": [each.to_json() for each in self.marginals],
        }

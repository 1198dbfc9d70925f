"""The table of an evaluation: its columns, its rows, and how it is written as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from steer.metrics.estimate import Estimate

Group = Literal["length", "diversity", "fidelity", "copying"]
Aim = Literal["higher", "lower", "as real"]


@dataclass(frozen=True)
class Column:
    """One metric. `aim` says what is good; "as real" means close to the row of real texts."""

    key: str
    group: Group
    title: str
    aim: Aim
    meaning: str


COLUMNS = (
    Column("words_mean", "length", "words", "as real", "words in a text, mean"),
    Column("words_p10", "length", "p10", "as real", "words in a text, 10th percentile"),
    Column("words_p50", "length", "p50", "as real", "words in a text, median"),
    Column("words_p90", "length", "p90", "as real", "words in a text, 90th percentile"),
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
        "cosine_real", "fidelity", "cosine to real", "as real", "mean cosine to the reference texts"
    ),
    Column("mauve", "fidelity", "MAUVE", "higher", "MAUVE to the reference texts"),
    Column(
        "auroc_trees",
        "fidelity",
        "AUROC, trees",
        "as real",
        "boosted trees that tell the set from the reference texts; 0.5: they cannot",
    ),
    Column(
        "auroc_logistic",
        "fidelity",
        "AUROC, logistic",
        "as real",
        "the same by logistic regression",
    ),
    Column("exact_copies", "copying", "exact copies", "lower", "share that are training texts"),
    Column(
        "near_copies",
        "copying",
        "near copies",
        "lower",
        "share that are near or exact copies of training texts",
    ),
    Column(
        "longest_run",
        "copying",
        "longest run",
        "as real",
        "words of the longest run shared with one training text, mean",
    ),
    Column(
        "nearest_cosine",
        "copying",
        "nearest cosine",
        "as real",
        "cosine to the nearest training text, mean",
    ),
)


@dataclass(frozen=True)
class Row:
    """One set of texts: an estimate for every key of `COLUMNS`, in their order."""

    name: str
    estimates: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name} | {key: e.to_json() for key, e in self.estimates.items()}


@dataclass(frozen=True)
class Evaluation:
    """Sets of texts measured against the same real texts.

    Every row has `n` texts. The last row, "real", is the ceiling: one half of the real texts
    against the other, which is what the other rows are compared with too. `notes` are plain
    sentences on what was cut, skipped or is not to be trusted.
    """

    rows: tuple[Row, ...]
    n: int
    embedder: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`: settings, notes, columns and rows."""
        return {
            "n": self.n,
            "embedder": self.embedder,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "columns": [asdict(column) for column in COLUMNS],
            "rows": [row.to_json() for row in self.rows],
        }

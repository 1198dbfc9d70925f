"""Which texts a fit trains on, and which it holds out."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.models.examples import Encoded
from steer.models.expert import FitSettings
from steer.seeds import derive

FEWEST = 10
"""Texts that can be fitted on, in all and of a label."""

MOST_HELD_OUT = 200
"""Texts held out at most: their mean loss is as good a guide as that of more, and they are read
after each epoch."""


@dataclass(frozen=True)
class Split:
    """Row indices by what is done with them, each sorted; too long are texts of more than `limit`
    tokens."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    too_long: tuple[int, ...]
    limit: int

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(sorted(self.train + self.held_out))


def split_texts(
    corpus: Corpus, encoded: Sequence[Encoded], limit: int, settings: FitSettings
) -> Split:
    """Splits rows into those to train on and to hold out, of each label its share; equal texts stay
    together, on one side. Raises `SteerError` for too few different texts."""
    rows = range(len(encoded))
    too_long = tuple(row for row in rows if len(encoded[row]["input_ids"]) > limit)
    kept = [row for row in rows if len(encoded[row]["input_ids"]) <= limit]
    texts = list(dict.fromkeys(corpus.texts[row] for row in kept))
    if len(texts) < FEWEST:
        raise SteerError(
            f"{len(texts)} different texts can be fitted on ({len(too_long)} of {len(rows)} have "
            f"more than {limit} tokens with the prompt, see --max-tokens); give at least {FEWEST}"
        )
    labels = corpus.labels or (None,) * len(rows)
    chosen = _hold_out([(corpus.texts[row], labels[row]) for row in kept], settings)
    return Split(
        train=tuple(row for row in kept if corpus.texts[row] not in chosen),
        held_out=tuple(row for row in kept if corpus.texts[row] in chosen),
        too_long=too_long,
        limit=limit,
    )


def _hold_out(texts: Sequence[tuple[str, str | None]], settings: FitSettings) -> set[str]:
    """Draws the texts to hold out: the share of all different ones, but a bounded number, spread
    over the labels as these are, never all of a label's. A text with several labels counts for
    its first one."""
    first: dict[str, str | None] = {}
    for text, label in texts:
        first.setdefault(text, label)
    of_label: dict[str | None, list[str]] = {}
    for text, label in first.items():
        of_label.setdefault(label, []).append(text)
    total = max(1, min(MOST_HELD_OUT, round(settings.held_out * len(first))))
    draw = random.Random(derive(settings.seed, "held-out"))
    counts = _spread(total, {label: len(own) for label, own in of_label.items()})
    return {text for label, own in of_label.items() for text in draw.sample(own, counts[label])}


def _spread(total: int, sizes: Mapping[str | None, int]) -> dict[str | None, int]:
    """Spreads a number over labels in proportion to their sizes (largest remainders first), at most
    all but one of each. Raises `SteerError` where every label has one text."""
    every = sum(sizes.values())
    quotas = {label: total * size / every for label, size in sizes.items()}
    counts = {label: min(int(quotas[label]), size - 1) for label, size in sizes.items()}
    while sum(counts.values()) < total:
        open_ones = [label for label in sizes if counts[label] < sizes[label] - 1]
        if not open_ones:
            break
        most = max(open_ones, key=lambda label: quotas[label] - counts[label])
        counts[most] += 1
    if not sum(counts.values()):
        raise SteerError(
            f"each of the {len(sizes)} labels has one text, so none can be held out; give more "
            "texts of each, or name another --label-column"
        )
    return counts

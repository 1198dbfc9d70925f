"""Real texts in two parts: some to fit on, others that nothing has read, to measure against."""

import heapq
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steer.data.corpus import Corpus
from steer.data.reading.chats import messages
from steer.data.words import fold
from steer.errors import SteerError
from steer.files import disk_errors, write_atomic
from steer.seeds import derive

LEAST, MOST = 0.2, 0.5
"""Shares of the texts that are kept to measure against."""


def divide(corpus: Corpus, records: int, seed: int = 0) -> tuple[Corpus, Corpus]:
    """Divides a corpus at random into texts to fit on and texts to measure so many records
    against: twice as many as those, but a fifth of all at least and a half at most. The labels have
    equal shares, and equal texts are in one part."""
    share = min(MOST, max(LEAST, 2 * records / len(corpus.texts)))
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(corpus.texts):
        groups.setdefault(fold(text), []).append(row)
    by_label: dict[str, list[list[int]]] = {}
    for rows in groups.values():
        by_label.setdefault(corpus.labels[rows[0]] if corpus.labels else "", []).append(rows)
    kept: list[int] = []
    for label, texts in sorted(by_label.items()):
        drawn = random.Random(derive(seed, "measure", label)).sample(texts, len(texts))
        kept += [row for rows in drawn[: round(share * len(texts))] for row in rows]
    held = set(kept)
    return (
        _chosen(corpus, [row for row in range(len(corpus.texts)) if row not in held]),
        _chosen(corpus, sorted(held)),
    )


def write_jsonl(corpus: Corpus, path: Path) -> None:
    """Writes texts as JSON lines, and labels if there are any in the column `label_column`; of
    records of columns each column as one, and of chats their `messages`."""
    name = label_column(corpus)
    labels: Sequence[str | None] = corpus.labels or [None] * len(corpus.texts)
    rows = (
        _fields(corpus, row) | ({} if label is None else {name: label})
        for row, label in enumerate(labels)
    )
    content = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content.encode())


def label_column(corpus: Corpus) -> str:
    """Name of the column that labels are written to: "label", unless the records have one."""
    return "steer_label" if corpus.shape and "label" in corpus.shape.properties else "label"


def _fields(corpus: Corpus, row: int) -> dict[str, Any]:
    text = corpus.texts[row]
    if corpus.turns:
        return {"messages": messages(corpus.turns[row], text)}
    columns = corpus.shape is not None and bool(corpus.shape.properties)
    return dict(json.loads(text)) if columns else {"text": text}


def shared_out(labels: Sequence[str], n: int) -> dict[str, int]:
    """Shares `n` records out over labels as often as each is there, one for each at least.

    By the method of Sainte-Lague: with a larger `n` no label gets fewer. Raises `SteerError` for
    fewer records than labels.
    """
    counts = Counter(labels)
    if n < len(counts):
        raise SteerError(f"n is {n}: fewer than the {len(counts)} labels; ask for more (--n)")
    shares = dict.fromkeys(sorted(counts), 1)
    queue = [(-counts[label] / 3, label) for label in shares]
    heapq.heapify(queue)
    for _ in range(n - len(counts)):
        _, label = queue[0]
        shares[label] += 1
        heapq.heapreplace(queue, (-counts[label] / (2 * shares[label] + 1), label))
    return shares


def _chosen(corpus: Corpus, rows: Sequence[int]) -> Corpus:
    return replace(
        corpus,
        texts=tuple(corpus.texts[row] for row in rows),
        labels=tuple(corpus.labels[row] for row in rows) if corpus.labels else None,
        turns=tuple(corpus.turns[row] for row in rows) if corpus.turns else None,
        notes=(),
    )

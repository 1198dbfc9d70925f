"""Weights under which real texts are likeliest: what guidance could gain, before any record.

The score of guided decoding is a weighted sum of the streams' log-probabilities, so the text's own
log-likelihood under it is concave in the weights, and its maximum is found in a few Newton steps.
A weight below 0 there would mean that moving away from the stream brings the expert nearer to real
text. The expert alone is there too, with a weight (a temperature) of its own: a contrast has to
gain more than that.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.lab import Lab
from benchmarks.study.parts import Cell
from benchmarks.study.streams import EARLY, INSIDE, STREAMS, Reader, Text
from steer.files import write_atomic

TEXTS = 40
STEPS = 5
USED = (
    ("expert",),
    *(("expert", other) for other in ("base", INSIDE, "negative", *EARLY)),
)


@dataclass(frozen=True)
class Likeliest:
    """Likeliest weights: `weights` by stream, the mean of two halves of the texts, and nats a token
    that each half has under the weights found on the other; `expert` is the same for the expert
    alone, and `low`, `high` the 95% interval of the gain, texts resampled."""

    weights: dict[str, float]
    nats: float
    expert: float
    low: float
    high: float


def measure(work: Path, cell: Cell) -> None:
    """Measures the likeliest weights of the cell's expert, once; written to
    WORK/weights/EXPERT.json."""
    path = work / "weights" / f"{cell.expert}.json"
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    lab = Lab(work, cell)
    corpus, reader = lab.corpus("validation"), Reader(lab)
    labels = corpus.labels or [None] * len(corpus.texts)
    rows = list(zip(corpus.texts, labels, strict=True))[:TEXTS]
    texts = [reader.read(text, label, i) for i, (text, label) in enumerate(rows)]
    found = [asdict(likeliest(texts, used)) for used in USED]
    write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())
    print(f"written: {path}", flush=True)


def likeliest(texts: Sequence[Text], used: Sequence[str]) -> Likeliest:
    """Finds the best weights of the streams `used`, the expert first among them."""
    rows = [STREAMS.index(name) for name in used]
    alone = torch.eye(len(rows))[0]
    kept = [Text(text.log_probs[rows], text.tokens) for text in texts]
    halves = kept[::2], kept[1::2]
    fitted = [_fit(half, alone) for half in halves]
    losses = [
        (_loss(text, weights), _loss(text, alone), len(text.tokens))
        for half, weights in zip(reversed(halves), fitted, strict=True)
        for text in half
    ]
    nats, expert, sizes = (np.array(column) for column in zip(*losses, strict=True))
    draws = np.random.default_rng(0).integers(len(sizes), size=(2000, len(sizes)))
    gains = (expert - nats)[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    return Likeliest(
        dict(zip(used, torch.stack(fitted).mean(0).tolist(), strict=True)),
        float(nats.sum() / sizes.sum()),
        float(expert.sum() / sizes.sum()),
        float(low),
        float(high),
    )


def _loss(text: Text, weights: Tensor) -> float:
    """Computes the nats of a whole text."""
    scores = torch.einsum("s,stv->tv", weights, text.log_probs.float())
    return -float(scores.log_softmax(-1).gather(-1, text.tokens[:, None]).sum())


def _fit(texts: Sequence[Text], first: Tensor) -> Tensor:
    """Newton's method: the gradient is the streams' mean log-probability of what was written less
    that of what the weights expect, the curvature its covariance under them."""
    weights, streams = first.double(), len(first)
    for _ in range(STEPS):
        slope = torch.zeros(streams, dtype=torch.float64)
        curve = torch.zeros(streams, streams, dtype=torch.float64)
        for text in texts:
            values = text.log_probs.float()
            p = torch.einsum("s,stv->tv", weights.float(), values).softmax(-1)
            mean = torch.einsum("tv,stv->st", p, values)
            places = text.tokens.expand(streams, -1).unsqueeze(-1)
            centred = values - mean.unsqueeze(-1)
            slope += (values.gather(-1, places).squeeze(-1) - mean).sum(-1).double()
            curve += torch.einsum("tv,atv,btv->ab", p, centred, centred).double()
        weights = weights + torch.linalg.solve(curve, slope)
    return weights.float()

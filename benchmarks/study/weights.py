"""Weights under which real texts are likeliest: what guidance could gain, before any record.

The score of guided decoding is a weighted sum of the streams' log-probabilities, so the text's own
log-likelihood under it is concave in the weights, and its maximum is found in a few Newton steps.
gamma > 0 there would mean that moving away from the base model brings the expert nearer to real
text; eta > 0, that moving away from a panel does.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.lab import Lab
from benchmarks.study.streams import STREAMS, Reader
from steer.files import write_atomic
from steer.models.expert import Expert

TEXTS = 40
STEPS = 6
USED = (("expert",), ("expert", "base"), ("expert", "negative"), STREAMS)
LEAST = -60.0  # nats: a token that a stream rules out would have an infinite gradient


@dataclass(frozen=True)
class Text:
    """Text as the streams read it: fp16 `log_probs` (streams, tokens, vocab), and its tokens."""

    log_probs: Tensor
    tokens: Tensor


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


def measure(work: Path, task: str) -> None:
    """Measures the likeliest weights of the task's expert, and of those that the study of utility
    fitted on fewer rows; written to WORK/weights/TASK.json as they are found, and those that are
    there are kept."""
    path = work / "weights" / f"{task}.json"
    path.parent.mkdir(exist_ok=True)
    found = json.loads(path.read_bytes()) if path.exists() else {}
    for rows, expert in _experts(work, task):
        if str(rows) in found:
            continue
        lab = Lab(work, task, expert)
        corpus = lab.corpus("validation")
        labels = corpus.labels or [None] * len(corpus.texts)
        texts = read_texts(Reader(lab, "prompted"), corpus.texts[:TEXTS], labels[:TEXTS])
        found[str(rows)] = [asdict(likeliest(texts, used)) for used in USED]
        write_atomic(path, json.dumps(found, indent=1).encode())
        print(f"{task}, expert fitted on {rows} rows: {found[str(rows)]}", flush=True)


def _experts(work: Path, task: str) -> Iterator[tuple[int, Expert]]:
    """Finds the experts, by the number of rows that they were fitted on."""
    fewer = (work / "use").glob("*/expert") if task == "comments" else ()
    for path in sorted(fewer):
        yield int(path.parent.name), Expert.load(path)
    lab = Lab(work, task)
    yield len(lab.fit.texts), lab.expert


def read_texts(reader: Reader, texts: Sequence[str], labels: Sequence[str | None]) -> list[Text]:
    """Computes every stream's reading of each text, with a panel of its own."""
    found = []
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        logits, tokens = reader.logits(text, label, i)
        log_probs = logits.log_softmax(-1).clamp_min(LEAST).half()
        found.append(Text(log_probs, tokens))
    return found


def likeliest(texts: Sequence[Text], used: Sequence[str]) -> Likeliest:
    """Finds the best weights of the streams `used`, the others' being 0."""
    free = torch.tensor([name in used for name in STREAMS])
    halves = texts[::2], texts[1::2]
    fitted = [_fit(half, free) for half in halves]
    alone = torch.tensor([1.0, 0.0, 0.0])
    losses = [
        (_loss(text, weights), _loss(text, alone), len(text.tokens))
        for half, weights in zip(reversed(halves), fitted, strict=True)
        for text in half
    ]
    nats, expert, sizes = (np.array(column) for column in zip(*losses, strict=True))
    draws = np.random.default_rng(0).integers(len(sizes), size=(2000, len(sizes)))
    gains = (expert - nats)[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    weights = torch.stack(fitted).mean(0).tolist()
    return Likeliest(
        dict(zip(STREAMS, weights, strict=True)),
        float(nats.sum() / sizes.sum()),
        float(expert.sum() / sizes.sum()),
        float(low),
        float(high),
    )


def _loss(text: Text, weights: Tensor) -> float:
    """Computes the nats of a whole text."""
    scores = torch.einsum("s,stv->tv", weights, text.log_probs.float())
    return -float(scores.log_softmax(-1).gather(-1, text.tokens[:, None]).sum())


def _fit(texts: Sequence[Text], free: Tensor) -> Tensor:
    """Newton's method: the gradient is the streams' mean log-probability of what was written less
    that of what the weights expect, the curvature its covariance under them."""
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    for _ in range(STEPS):
        slope, curve = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
        for text in texts:
            values = text.log_probs.float()
            p = torch.einsum("s,stv->tv", weights.float(), values).softmax(-1)
            mean = torch.einsum("tv,stv->st", p, values)
            real = values.gather(-1, text.tokens.expand(3, -1).unsqueeze(-1)).squeeze(-1)
            centred = values - mean.unsqueeze(-1)
            slope += (real - mean).sum(-1).double()
            curve += torch.einsum("tv,atv,btv->ab", p, centred, centred).double()
        part = curve[free][:, free]
        weights[free] += torch.linalg.solve(part, slope[free])
    return weights.float()

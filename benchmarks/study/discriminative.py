"""Discriminative fine-tuning of a cell's expert against its own samples (DDO, arXiv 2503.01103).

With p the adapter that is fitted on, and q the expert as it was, a text's beta * log(p / q) is the
logit of a classifier of real texts and the expert's own samples. So p moves towards real text where
q's samples differ from it. The own samples are the cell's plain candidates, the real texts those
that the expert was fitted on. The adapter with the lowest loss on real texts that nothing was
fitted on (part `select`) and on own samples left out is kept.

WORK/ddo/EXPERT: the expert after it; WORK/ddo/EXPERT.json: how it went.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.correction import by_characters
from benchmarks.study.lab import Lab
from benchmarks.study.measure import candidates
from benchmarks.study.plan import CHEAP, make_with, pool
from benchmarks.study.reading import DRAWS, shown
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.files import write_atomic
from steer.models.base import load_model, load_tokenizer
from steer.models.examples import Encoded, completions, encode
from steer.models.expert import Expert
from steer.models.layouts import Padded, token_losses
from steer.seeds import derive

BETA, LR, EPOCHS, BATCH, TESTS = 0.05, 1e-4, 1, 4, 4
NAME = "discriminative"
LEFT_OUT = 60
"""Own samples, and unseen real texts, that the adapter is chosen by."""


@dataclass(frozen=True)
class Point:
    """State after some updates: mean nats a token of the unseen real texts; mean log(p / q) of
    unseen real texts and of own samples left out, in nats a text; and the loss of both."""

    updates: int
    nats: float
    real: float
    own: float
    loss: float


def run(lab: Lab) -> None:
    """Fits the cell's expert further and makes candidates with it, as top-k does with the expert
    as it was. Prints how well random thirds of either are told from the real texts."""
    fit(lab)
    changed = Expert.load(lab.work / "ddo" / lab.cell.expert)
    engine = EngineSpec(changed.base, changed.path).load()
    made = make_with(lab, CHEAP, changed, engine, pool(lab.work, lab.cell, NAME)).records
    real = lab.corpus("report").texts
    print(f"real texts: {_words(real):.1f} words")
    for name, records in ((NAME, made), (CHEAP, candidates(lab, CHEAP))):
        texts = [each.text for each in records]
        drawn = (random.Random(draw).sample(texts, len(texts) // 3) for draw in range(DRAWS))
        areas = [by_characters(real, some) for some in drawn]
        print(f"{name}: {_words(texts):.1f} words, AUROC {shown(areas)}", flush=True)


def _words(texts: Sequence[str]) -> float:
    return float(np.mean([len(text.split()) for text in texts]))


def fit(lab: Lab, beta: float = BETA, lr: float = LR, epochs: int = EPOCHS) -> None:
    """Fits the cell's expert further, once."""
    out = lab.work / "ddo" / lab.cell.expert
    if out.exists():
        return
    from peft import PeftModel

    torch.manual_seed(lab.cell.seed)
    path = str(lab.expert.path)
    model = PeftModel.from_pretrained(load_model(lab.expert.base), path, is_trainable=True).eval()
    kinds = _Texts.of(lab)
    q = {name: _read(model, rows) for name, rows in kinds.named().items()}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    pairs = _pairs(len(kinds.real), len(kinds.own), epochs, lab.cell.seed)
    points = [_test(model, kinds, q, beta, 0)]
    print(points[-1], flush=True)
    best = [weight.detach().clone() for weight in trained]
    for step, (reals, owns) in enumerate(pairs, 1):
        optimiser.param_groups[0]["lr"] = lr * min(1, step / 5) * (1 - (step - 1) / len(pairs))
        for rows, texts, before, sign in (
            (reals, kinds.real, q["real"], -1.0),
            (owns, kinds.own, q["own"], 1.0),
        ):
            nats = _nats(model, [texts[row] for row in rows])
            ratio = torch.tensor(before[rows]) - nats  # log(p / q): nats are -log p
            (softplus(sign * beta * ratio).mean() / beta).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % max(1, len(pairs) // TESTS) == 0:
            points.append(_test(model, kinds, q, beta, step))
            print(points[-1], flush=True)
            if points[-1].loss <= min(point.loss for point in points):
                best = [weight.detach().clone() for weight in trained]
    with torch.no_grad():
        for weight, kept in zip(trained, best, strict=True):
            weight.copy_(kept)
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = out.with_name(f"{out.name}.part")
    shutil.copytree(lab.expert.path, whole, dirs_exist_ok=True)
    model.save_pretrained(str(whole), save_embedding_layers=False)
    (whole / "README.md").unlink(missing_ok=True)
    whole.rename(out)
    values = {"beta": beta, "lr": lr, "points": [asdict(point) for point in points]}
    write_atomic(out.with_suffix(".json"), (json.dumps(values, indent=1) + "\n").encode())


@dataclass(frozen=True)
class _Texts:
    real: Sequence[Encoded]
    own: Sequence[Encoded]
    unseen: Sequence[Encoded]
    left_out: Sequence[Encoded]

    @classmethod
    def of(cls, lab: Lab) -> "_Texts":
        tokenizer, task = load_tokenizer(lab.expert.base), lab.expert.task
        records = candidates(lab, "plain")
        labels = tuple(each.label or "" for each in records) if task.labels else None
        own = encode(Corpus(tuple(each.text for each in records), labels, "own"), task, tokenizer)
        real, unseen = (encode(lab.corpus(name), task, tokenizer) for name in ("fit", "select"))
        return cls(real, own[:-LEFT_OUT], unseen[:LEFT_OUT], own[-LEFT_OUT:])

    def named(self) -> dict[str, Sequence[Encoded]]:
        return dict(vars(self))


def _pairs(real: int, own: int, epochs: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws batches of real texts, each once an epoch, and as many own samples."""
    draw = np.random.default_rng(derive(seed, "ddo"))
    found = []
    for _ in range(epochs):
        order = draw.permutation(real)
        others = np.resize(draw.permutation(own), real)
        found += [(order[i : i + BATCH], others[i : i + BATCH]) for i in range(0, real, BATCH)]
    return found


def _test(model: Any, kinds: _Texts, q: dict[str, np.ndarray], beta: float, step: int) -> Point:
    unseen, own = _read(model, kinds.unseen), _read(model, kinds.left_out)
    real, made = q["unseen"] - unseen, q["left_out"] - own
    loss = np.logaddexp(0, -beta * real).mean() + np.logaddexp(0, beta * made).mean()
    figures = unseen.sum() / completions(kinds.unseen), real.mean(), made.mean(), loss
    return Point(step, *(round(float(each), 5) for each in figures))


def _read(model: Any, texts: Sequence[Encoded]) -> np.ndarray:
    """Reads many texts, without gradients; nats of each, (texts,)."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]["input_ids"]))
    found = np.zeros(len(texts), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(order), 8):
            rows = order[start : start + 8]
            found[rows] = _nats(model, [texts[row] for row in rows]).numpy()
    return found


def _nats(model: Any, texts: Sequence[Encoded]) -> Tensor:
    """Nats of whole texts, (texts,)."""
    read = Padded(0).lay_out(texts)
    rows = read.where // read.inputs["input_ids"].shape[1]
    return torch.zeros(len(texts)).index_add(0, rows, token_losses(model, read))

"""Experts that read panels: fitted on sequences of one to eight texts, each under its prompt, with
the loss on every one (fine-tuned in-context learners, arXiv 2512.19879; ManyICL, 2506.11103).

Two thirds of the sequences are of one neighbourhood (in-context pretraining, arXiv 2310.10638), one
third are at random. The plain expert beside it is fitted by the same loop on sequences of one text:
as many texts, in the same order of learning rates. Unseen real texts are then read alone, after a
panel of their neighbours among the fitted texts, and after a panel drawn at random; the gate is
0.05 nats a token that neighbours must give.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.study.parts import Cell, load_part
from steer.data.catalog import load_task
from steer.files import write_atomic
from steer.models.base import encode_prompt, encode_texts, load_model, load_tokenizer
from steer.models.cache import Cache
from steer.models.embedder import load_embedder
from steer.models.expert import FitSettings
from steer.models.packaged import default_model
from steer.seeds import derive

LONGEST, PANEL, NEARBY = 8, 3, 2 / 3
RATE, EPOCHS, BATCH = 3e-4, 2, 8
READ = 60
"""Unseen texts that are read."""

KINDS = ("alone", "neighbours", "random")
GATE = 0.05


@dataclass(frozen=True)
class Read:
    """Mean nats a token of the unseen texts under an expert, read alone, after neighbours, and
    after random texts; and the 95% interval of what neighbours give, texts resampled."""

    alone: float
    neighbours: float
    random: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Piece:
    """Text of a sequence: its prompt, then its completion with the end of text."""

    prompt: Sequence[int]
    completion: Sequence[int]


@dataclass(frozen=True)
class Texts:
    """Texts as pieces, with their unit embeddings (texts, d) and labels."""

    pieces: Sequence[Piece]
    vectors: np.ndarray
    labels: Sequence[str | None]


def measure(work: Path, cell: Cell, wide: bool = False) -> None:
    """Fits both experts on the cell's part `fit`, or on `wide`, which is larger, reads with them,
    and writes WORK/panels/EXPERT-ROWS.json."""
    fit = _texts(work, cell, "wide" if wide else "fit", None)
    unseen = _texts(work, cell, "report", READ)
    path = work / "panels" / f"{cell.expert}-{len(fit.pieces)}.json"
    if path.exists():
        return
    found = {}
    for name, longest in (("plain", 1), ("panels", LONGEST)):
        model = _fitted(fit, longest, EPOCHS, cell.seed)
        found[name] = asdict(_read(model, fit, unseen, cell.seed))
        print(f"{cell.expert}, {len(fit.pieces)} texts, {name}: {found[name]}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())


def _texts(work: Path, cell: Cell, part: str, most: int | None) -> Texts:
    corpus, task = load_part(work, cell, part), load_task(cell.task)
    tokenizer = load_tokenizer(default_model())
    texts = corpus.texts[:most]
    labels = (corpus.labels or (None,) * len(corpus.texts))[:most]
    completions = encode_texts(tokenizer, [task.completion(text) for text in texts])
    prompts = {label: encode_prompt(tokenizer, task.render(label)) for label in set(labels)}
    pieces = [
        Piece(prompts[label], [*ids, tokenizer.eos_token_id])
        for label, ids in zip(labels, completions, strict=True)
    ]
    return Texts(pieces, load_embedder(None, Cache()).embed(list(texts)), labels)


def sequences(texts: Texts, longest: int, seed: int) -> list[list[int]]:
    """Draws sequences of 1 to `longest` different texts of one label; every text is in one."""
    draw = np.random.default_rng(derive(seed, "sequences"))
    left = set(range(len(texts.pieces)))
    found = []
    while left:
        first = int(draw.choice(sorted(left)))
        mine = [row for row in sorted(left - {first}) if texts.labels[row] == texts.labels[first]]
        if draw.random() < NEARBY:
            mine.sort(key=lambda row: -float(texts.vectors[row] @ texts.vectors[first]))
        else:
            draw.shuffle(mine)
        chosen = [first, *mine[: int(draw.integers(longest))]]
        draw.shuffle(chosen)
        left -= set(chosen)
        found.append(chosen)
    return found


def _fitted(texts: Texts, longest: int, epochs: int, seed: int) -> Any:
    """Fits an adapter: a linear schedule to 0, updates of about eight texts."""
    from peft import LoraConfig, get_peft_model

    settings = FitSettings()
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(load_model(default_model()), config)
    updates = [
        update
        for epoch in range(epochs)
        for update in _updates(sequences(texts, longest, derive(seed, "epoch", epoch)), BATCH)
    ]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    for step, update in enumerate(updates):
        optimiser.param_groups[0]["lr"] = RATE * (1 - step / len(updates))
        tokens = sum(len(texts.pieces[row].completion) for chosen in update for row in chosen)
        for chosen in update:
            loss, _ = _loss(model, [texts.pieces[row] for row in chosen])
            (loss.sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def _updates(found: Sequence[list[int]], batch: int) -> Iterator[list[list[int]]]:
    """Groups sequences into updates of at least `batch` texts."""
    update: list[list[int]] = []
    for chosen in found:
        update.append(chosen)
        if sum(map(len, update)) >= batch:
            yield update
            update = []
    if update:
        yield update


def _loss(model: Any, pieces: Sequence[Piece]) -> tuple[torch.Tensor, int]:
    """Computes the nats of every completion token of a sequence, and how many of them are the last
    text's."""
    ids = [token for piece in pieces for token in (*piece.prompt, *piece.completion)]
    asked = [
        asked
        for piece in pieces
        for asked in (*[False] * len(piece.prompt), *[True] * len(piece.completion))
    ]
    places = torch.tensor([place for place, wanted in enumerate(asked) if wanted])
    logits = model(torch.tensor([ids]), logits_to_keep=places - 1, use_cache=False).logits[0]
    nats = cross_entropy(logits.float(), torch.tensor(ids)[places], reduction="none")
    return nats, len(pieces[-1].completion)


@torch.inference_mode()
def _read(model: Any, fit: Texts, unseen: Texts, seed: int) -> Read:
    nats, sizes = np.zeros((len(unseen.pieces), len(KINDS))), np.zeros(len(unseen.pieces))
    for row, piece in enumerate(unseen.pieces):
        for column, kind in enumerate(KINDS):
            shown = [fit.pieces[other] for other in _panel(fit, unseen, row, kind, seed)]
            loss, size = _loss(model, [*shown, piece])
            nats[row, column], sizes[row] = float(loss[-size:].sum()), size
    means = nats.sum(0) / sizes.sum()
    draws = np.random.default_rng(0).integers(len(sizes), size=(2000, len(sizes)))
    gains = (nats[:, 0] - nats[:, 1])[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    alone, near, drawn = map(float, means)
    return Read(alone, near, drawn, alone - near, float(low), float(high))


def _panel(fit: Texts, unseen: Texts, row: int, kind: str, seed: int) -> list[int]:
    """Chooses a panel of fitted texts of the row's label; the nearest comes last."""
    if kind == "alone":
        return []
    mine = [other for other, label in enumerate(fit.labels) if label == unseen.labels[row]]
    if kind == "random":
        draw = np.random.default_rng(derive(seed, "panel", row))
        return [mine[place] for place in draw.choice(len(mine), PANEL, replace=False)]
    near = sorted(mine, key=lambda other: float(fit.vectors[other] @ unseen.vectors[row]))
    return near[-PANEL:]

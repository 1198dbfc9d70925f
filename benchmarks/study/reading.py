"""What else a selector could read: which real texts, token log-probabilities under the base model,
which has read none of them, so that nothing is memorised, and the hidden states of that model.

Prints, for top-k's candidates of a cell, the AUROC of character n-grams and the share of nonsense
over `DRAWS` corrections, mean and standard error; and how well each of the features tells real
texts from candidates.
"""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.correction import by_characters
from benchmarks.study.lab import Lab
from benchmarks.study.measure import candidates
from benchmarks.study.plan import CHEAP
from steer.correction.acceptance import accept
from steer.correction.selector import Sample, Selector, embedder_of
from steer.data.corpus import Corpus
from steer.models.base import load_model, load_tokenizer
from steer.models.cache import Cache
from steer.models.examples import encode
from steer.models.judge import load_judge
from steer.models.layouts import Padded, token_losses
from steer.models.packaged import GEMMA

DRAWS = 4
FEATURES = ("mean", "spread", "least", "mean of the lowest fifth")
DEPTH, COMPONENTS = 20, 40
"""Blocks of the base model after which its states are read, and principal components of them."""


def measure(lab: Lab) -> None:
    """Measures a cell."""
    from sklearn.metrics import roc_auc_score

    made, report = candidates(lab, CHEAP), lab.corpus("report").texts
    texts, ids = [each.text for each in made], [each.id for each in made]
    judge = load_judge(GEMMA, lab.prompt, cache=Cache())
    nonsense = judge.read(texts).mean < np.quantile(judge.read(report).mean, 0.05)
    print(f"nonsense among all candidates: {nonsense.mean():.3f}", flush=True)
    embedder = embedder_of(None)
    fitted, unread = lab.fit.texts, lab.corpus("select").texts
    vectors = embedder.embed(texts)

    def corrected(
        real: Sequence[str], given: tuple[np.ndarray, np.ndarray] | tuple[None, None]
    ) -> str:
        areas, shares = [], []
        sample = Sample(real, embedder.embed(real), given[0])
        for seed in range(DRAWS):
            mine = Sample(texts, vectors, given[1])
            scores = Selector.fit(sample, mine, embedder=embedder, seed=seed).candidate_scores
            rows = accept(scores, len(texts) // 3, ids, seed).rows
            areas.append(by_characters(report, [texts[row] for row in rows]))
            shares.append(nonsense[list(rows)].mean())
        return f"AUROC {shown(areas)}, nonsense {shown(shares)}"

    for name, real in (
        ("texts that the expert never read", unread),
        ("texts that it was fitted on", fitted),
        ("both", [*fitted, *unread]),
    ):
        print(f"{len(real)} {name}: {corrected(real, (None, None))}", flush=True)
    labels = tuple(each.label or "" for each in made) if lab.expert.labels else None
    ours = base_features(lab, lab.corpus("select"))
    theirs = base_features(lab, Corpus(tuple(texts), labels, "candidates"))
    kind = np.arange(len(ours) + len(theirs)) < len(ours)
    for column, name in enumerate(FEATURES):
        area = roc_auc_score(kind, np.concatenate([ours, theirs])[:, column])
        print(f"log-probability under the base model, {name}: AUROC {area:.3f}")
    print(f"{len(unread)} never read, these too: {corrected(unread, (ours, theirs))}", flush=True)
    states = base_states(lab, [*unread, *texts])
    both = states[: len(unread)], states[len(unread) :]
    print(f"{len(unread)} never read, the base model's states too: {corrected(unread, both)}")


def shown(areas: Sequence[float]) -> str:
    """Mean and standard error."""
    return f"{np.mean(areas):.3f} ± {np.std(areas, ddof=1) / len(areas) ** 0.5:.3f}"


@torch.inference_mode()
def base_features(lab: Lab, corpus: Corpus) -> np.ndarray:
    """`FEATURES` of each text's tokens under the base model, (texts, 4); the first token and the
    end, which tell the format, are left out."""
    model = load_model(lab.expert.base).eval()
    encoded = encode(corpus, lab.expert.task, load_tokenizer(lab.expert.base))
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]["input_ids"]))
    found = np.zeros((len(encoded), len(FEATURES)))
    for start in range(0, len(order), 8):
        rows = order[start : start + 8]
        read = Padded(0).lay_out([encoded[row] for row in rows])
        values = -token_losses(model, read).numpy()
        owner = (read.where // read.inputs["input_ids"].shape[1]).numpy()
        for place, row in enumerate(rows):
            inner = values[owner == place][1:-1]
            lowest = np.sort(inner)[: max(1, len(inner) // 5)]
            found[row] = inner.mean(), inner.std(), inner.min(), lowest.mean()
    return found


@torch.inference_mode()
def base_states(lab: Lab, texts: Sequence[str]) -> np.ndarray:
    """Principal components of each text's mean hidden state under the base model, which reads it
    without a prompt, (texts, COMPONENTS); the first token, which attracts attention, is left
    out."""
    model, tokenizer = load_model(lab.expert.base).eval(), load_tokenizer(lab.expert.base)
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states[DEPTH]
        found.append(states[0, min(1, ids.shape[1] - 1) :].float().mean(dim=0).numpy())
    centred = np.stack(found) - np.mean(found, axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    scaled: np.ndarray = left[:, :COMPONENTS] * values[:COMPONENTS] / values[0]
    return scaled

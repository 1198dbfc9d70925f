"""What else a selector could read: which real texts, and a text's token log-probabilities under the
base model, which has read none of them, so that nothing is memorised.

Prints, for top-k's candidates of a cell, the AUROC of character n-grams over `DRAWS` corrections,
mean and standard error; and how well each of the features tells real texts from candidates.
"""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.correction import by_characters
from benchmarks.study.lab import Lab
from benchmarks.study.measure import candidates
from benchmarks.study.plan import PROPOSALS
from steer.correction.acceptance import accept
from steer.correction.selector import Sample, Selector, embedder_of
from steer.data.corpus import Corpus
from steer.models.base import load_model, load_tokenizer
from steer.models.examples import encode
from steer.models.layouts import Padded, token_losses

DRAWS = 4
FEATURES = ("mean", "spread", "least", "mean of the lowest fifth")


def measure(lab: Lab) -> None:
    """Measures a cell."""
    from sklearn.metrics import roc_auc_score

    made, report = candidates(lab, PROPOSALS[0]), lab.corpus("report").texts
    texts, ids = [each.text for each in made], [each.id for each in made]
    embedder = embedder_of(None)
    fitted, unread = lab.fit.texts, lab.corpus("select").texts
    vectors = embedder.embed(texts)

    def corrected(
        real: Sequence[str], given: tuple[np.ndarray, np.ndarray] | tuple[None, None]
    ) -> str:
        areas = []
        sample = Sample(real, embedder.embed(real), given[0])
        for seed in range(DRAWS):
            mine = Sample(texts, vectors, given[1])
            scores = Selector.fit(sample, mine, embedder=embedder, seed=seed).candidate_scores
            rows = accept(scores, len(texts) // 3, ids, seed).rows
            areas.append(by_characters(report, [texts[row] for row in rows]))
        return shown(areas)

    for name, real in (
        ("texts that the expert never read", unread),
        ("texts that it was fitted on", fitted),
        ("both", [*fitted, *unread]),
    ):
        print(f"{len(real)} {name}: AUROC {corrected(real, (None, None))}", flush=True)
    labels = tuple(each.label or "" for each in made) if lab.expert.labels else None
    ours = base_features(lab, lab.corpus("select"))
    theirs = base_features(lab, Corpus(tuple(texts), labels, "candidates"))
    kind = np.arange(len(ours) + len(theirs)) < len(ours)
    for column, name in enumerate(FEATURES):
        area = roc_auc_score(kind, np.concatenate([ours, theirs])[:, column])
        print(f"log-probability under the base model, {name}: AUROC {area:.3f}")
    print(f"{len(unread)} never read, these too: AUROC {corrected(unread, (ours, theirs))}")


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

"""Use of synthetic texts: what a classifier of labels learns from synthetic comments, beside and
with real ones.

For 100, 500 and 2,000 real rows: an expert fitted on just those rows writes comments of both
labels, and the classifier (steer.evaluation.utility) is trained on the real rows, on the synthetic
ones, and on both, and tested on real comments that nothing else has read.

    WORK/use/ROWS/expert, METHOD/seed-N     experts and runs
    WORK/use/found.json                     what classifiers learned
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.study.lab import Lab
from benchmarks.study.plan import DEFAULT, EPOCHS, SEEDS
from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.evaluation.utility import Examples, label_scores
from steer.files import write_atomic
from steer.methods import find_method
from steer.models.cache import Cache
from steer.models.embedder import Embedder, load_embedder
from steer.models.expert import Expert, FitSettings
from steer.models.fitting import fit as fit_expert
from steer.runs.generation import generate
from steer.runs.store import Run

TASK = "comments"
ROWS = (100, 500, 2000)
RECORDS = 200  # a seed
METHODS = {
    "plain": "plain",
    "top-k": "top-k:top_k=500",
    "steer": DEFAULT,
    "label-contrast": "label-contrast:alpha=0.001",
}


@dataclass(frozen=True)
class Score:
    """Score of a classifier: balanced accuracy on real comments: its mean over seeds, and its
    standard deviation over them and over random shares of the training texts."""

    rows: int
    trained_on: str
    texts: int
    mean: float
    sd: float


def measure(work: Path) -> None:
    """Fits, generates and trains; writes WORK/use/found.json."""
    lab, embedder = Lab(work, TASK), load_embedder(cache=Cache())
    test = _examples(embedder, lab.corpus("report"))
    found: list[Score] = []
    for rows in ROWS:
        real = _first(lab.fit, rows)
        mine = _examples(embedder, real)
        found.append(_score(rows, "real", [mine], test))
        for name, runs in _runs(lab, real).items():
            made = [_examples(embedder, _corpus(run)) for run in runs]
            found.append(_score(rows, name, made, test))
            found.append(_score(rows, f"real + {name}", [mine + each for each in made], test))
        write_atomic(
            work / "use" / "found.json", json.dumps([asdict(each) for each in found]).encode()
        )
    for each in found:
        print(f"{each.rows:5} {each.trained_on:24} {each.mean:.3f} ({each.sd:.3f})")


def _score(rows: int, name: str, sets: Sequence[Examples], test: Examples) -> Score:
    scores = [label_scores(each, test, seed) for seed, each in enumerate(sets)]
    return Score(rows, name, len(sets[0]), float(np.mean(scores)), float(np.std(scores)))


def _runs(lab: Lab, real: Corpus) -> dict[str, list[Run]]:
    """Makes for each method a run for each seed by an expert fitted on `real`."""
    folder = lab.work / "use" / str(len(real.texts))
    expert = _expert(lab, real, folder / "expert")
    engine = EngineSpec(expert.base, expert.path).load()
    half = RECORDS // 2
    found: dict[str, list[Run]] = {}
    for name, setting in METHODS.items():
        method = find_method(setting, labelled=True)
        for seed in SEEDS:
            others = {"labels": dict.fromkeys(expert.task.labels, half), "seed": seed}
            config = method.configure(others, expert.max_completion_tokens)
            out = folder / name / f"seed-{seed}"
            found.setdefault(name, []).append(generate(config, real, expert, engine, out))
            print(f"{len(real.texts)} rows, {name}, seed {seed}", flush=True)
    return found


def _expert(lab: Lab, real: Corpus, out: Path) -> Expert:
    if len(real.texts) == len(lab.fit.texts):
        return lab.expert
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        fit_expert(real, lab.expert.task, out, settings=FitSettings(epochs=2 * EPOCHS[TASK]))
    return Expert.load(out)


def _first(corpus: Corpus, rows: int) -> Corpus:
    return Corpus(corpus.texts[:rows], (corpus.labels or ())[:rows], corpus.source)


def _corpus(run: Run) -> Corpus:
    texts = tuple(record.text for record in run.records)
    return Corpus(texts, tuple(str(record.label) for record in run.records), str(run.path))


def _examples(embedder: Embedder, corpus: Corpus) -> Examples:
    return Examples(embedder.embed(corpus.texts), np.array(corpus.labels))

"""Plan of the study: experts, the settings tried for each method, and the report.

WORK/experts/TASK, TASK-judge       experts
WORK/validation/TASK/seed-100       every setting of every family, measured on the validation part
WORK/chosen/TASK.json               the best setting of each family by the summary figure
WORK/report/TASK/seed-0, 1, 2       the chosen settings, measured on the part for reporting
"""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.study.lab import Lab
from benchmarks.study.parts import part
from steer.data.catalog import load_task
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.evaluation.estimate import Estimate
from steer.files import write_atomic
from steer.models.expert import FitSettings
from steer.models.fitting import fit as fit_expert


def _settings(name: str, *values: float) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for value in values)


VALIDATION_SEED = 100
SEEDS = (0, 1, 2)
EPOCHS = {"hypotheses": 3, "comments": 2, "commonsense": 1}
JUDGE_EPOCHS = {"hypotheses": 3, "comments": 1, "commonsense": 1}
TRIED, REPORTED = 60, 80
"""Records of a setting that is tried, and of a method and seed in the report."""

BASELINES = {
    "temperature": _settings("temperature:temperature", 0.8, 0.9, 0.93, 0.95, 0.98),
    "nucleus": _settings("nucleus:top_p", 0.92, 0.95, 0.97, 0.98, 0.99),
    "top-k": _settings("top-k:top_k", 10, 50, 200, 500, 1000),
    "min-p": _settings("min-p:min_p", 0.0005, 0.001, 0.005, 0.02, 0.1),
}
OURS = {
    # Contrastive guidance alone, negative prompting alone, both, and a panel's sign turned round.
    "contrastive-decoding": (
        *_settings("contrastive-decoding:alpha=0:gamma", 0.1, 0.2, 0.3),
        "contrastive-decoding:alpha=0.0005:gamma=0.3",
        "contrastive-decoding:alpha=0.001:gamma=0.1",
    ),
    "steer-negative": (
        *_settings("steer-negative:eta", 0.2, 0.5, 0.8, 1.0),
        "steer-negative:alpha=0.001:eta=0.3",
    ),
    "steer": (
        "steer:gamma=0.2:eta=0.2:alpha=0",
        "steer:gamma=0.3:eta=0.3:alpha=0",
        "steer:gamma=0.2:eta=0.5:alpha=0",
        "steer:gamma=0.3:eta=0.3:alpha=0.0005",
        "steer:gamma=0.1:eta=0.2:alpha=0.001",
    ),
    "steer-positive": (
        "steer-positive:gamma=0:eta=0:rho=0.25:alpha=0",
        "steer-positive:gamma=0:eta=0:rho=0.25:alpha=0.001",
        "steer-positive:gamma=0:eta=0:rho=0.5:alpha=0.001",
        "steer-positive:gamma=0.1:eta=0:rho=0.25:alpha=0.001",
        "steer-positive:gamma=0:eta=0.2:rho=0.3:alpha=0.001",
    ),
}
"""Families of settings, as many in each; the best of each on the validation part is reported."""

_BOTH = "gamma=0.3:eta=0.3:alpha=0"
DEFAULT = "steer:gamma=0.1:eta=0.2:alpha=0.001"
"""What is reported for every task as well, as a user gets it who chooses nothing."""

VARIANTS = (
    f"steer-raw:{_BOTH}",
    f"steer-nearest:{_BOTH}",
    f"steer-crowded:{_BOTH}",
    f"steer-diverse:{_BOTH}",
    f"steer-min:{_BOTH}",
    f"steer-positive:{_BOTH}",
    f"steer:{_BOTH}:weights=published",
    f"steer:{_BOTH}:panel_size=3",
    f"steer:{_BOTH}:panel_size=20",
    "steer-adaptive:alpha=0",
    "steer:gamma=0.3:eta=0.3:alpha=0.01",
    "steer:gamma=0.3:eta=0.3:alpha=0.01:temperature=1.15",
    "steer:gamma=0.6:eta=0:alpha=0",
)
"""Other forms of steering, tried on the hypotheses' validation part alone."""

FIXED = {
    "hypotheses": ("plain", "steer-published", "greedy", "contrastive-search", "beam"),
    "comments": ("plain", "steer-published", "label-contrast"),
    "commonsense": ("plain", "steer-published"),
}
"""Reported as they are: nothing is chosen. Searches are slow, and write few valid questions."""


def fit(work: Path, task: str) -> None:
    """Fits the task's expert and its judge, each from rows of its own."""
    steps = ((task, "fit", 0, EPOCHS[task]), (f"{task}-judge", "judge", 1, JUDGE_EPOCHS[task]))
    for name, rows, seed, epochs in steps:
        out = work / "experts" / name
        if out.exists():
            continue
        found = load_task(task)
        corpus = load_corpus(str(part(work, task, rows)), "text", "label" if found.labels else None)
        out.parent.mkdir(parents=True, exist_ok=True)
        fit_expert(corpus, found, out, settings=FitSettings(epochs=epochs, seed=seed))
        print(f"written: {out}", flush=True)


def tune(lab: Lab) -> None:
    """Tries every setting on the validation part; writes which of each family is best."""
    families = BASELINES | OURS
    settings = ["plain", *(each for family in families.values() for each in family)]
    if lab.task == "hypotheses":
        settings += VARIANTS
    found = lab.compare(settings, "validation", VALIDATION_SEED, TRIED)
    measured = {row.name: row.estimates for row in lab.evaluate(found, "validation").rows}
    best = {
        name: max(family, key=lambda each: _summary(measured, each))
        for name, family in families.items()
    }
    path = lab.work / "chosen" / f"{lab.task}.json"
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, (json.dumps(best, indent=2) + "\n").encode())


def _summary(measured: Mapping[str, Mapping[str, Estimate]], name: str) -> float:
    """Summary of a setting; 0 for one that gave too few records to measure."""
    return (measured[name]["summary"].value or 0.0) if name in measured else 0.0


def chosen(work: Path, task: str) -> dict[str, str]:
    """Reads the best setting of each family."""
    path = work / "chosen" / f"{task}.json"
    try:
        found: dict[str, str] = json.loads(path.read_bytes())
    except OSError as error:
        raise SteerError(f"cannot read {path}: {error.strerror}; run tune first") from None
    return found


def reported(work: Path, task: str) -> tuple[str, ...]:
    """Lists the methods of the report, each once."""
    return tuple(dict.fromkeys((*FIXED[task], *chosen(work, task).values(), DEFAULT)))


def report(lab: Lab) -> None:
    """Runs the chosen settings and those that are not chosen, each seed on the part for
    reporting."""
    methods = reported(lab.work, lab.task)
    for seed in SEEDS:
        found = lab.compare(methods, "report", seed, REPORTED)
        lab.evaluate(found, "report", seed)

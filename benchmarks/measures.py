"""Texts that the authors of the paper published, measured: `python -m benchmarks.measures --data
FOLDER --reference FOLDER` (docs/measures.md).

FOLDER/TASK.jsonl are the real texts, and FOLDER/TASK-METHOD.jsonl what a method made of them. The
judge is Gemma 3 270M, of another family than the model that wrote them (Falcon-7B).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.report import ROOT, replace_section, table
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.evaluation.evaluate import EvaluationProgress, evaluate
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.table import show
from steer.files import write_atomic
from steer.models.packaged import GEMMA
from steer.quiet import quiet_logs

TEXTS = 500
PROMPTS = {
    "hypotheses": "A research question in astronomy:",
    "commonsense": "A multiple-choice question with five options and its answer:",
}
METHODS = ("greedy", "beam", "contrastive-search", "nucleus", "top-k", "steer")
SHOWN = {
    "nonsense": "nonsense",
    "likelihood_distance": "likelihood distance",
    "auroc": "AUROC",
    "auroc_words": "words",
    "auroc_characters": "characters",
    "auroc_embedding": "embedding",
    "auroc_trees": "trees",
    "auroc_likelihood": "likelihood",
    "vendi_1": "Vendi",
    "near_copies": "near copies",
    "fidelity_score": "fidelity",
    "diversity_score": "diversity",
    "coherence_score": "coherence",
    "non_copying_score": "non-copying",
}
RESULTS = ROOT / "benchmarks" / "results" / "measures.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures both tasks, and writes the results and their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measures", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="folder of the real texts")
    parser.add_argument("--reference", type=Path, required=True, help="folder of the methods'")
    options = parser.parse_args(arguments)
    try:
        with quiet_logs():
            found = {task: _measure(task, options) for task in PROMPTS}
    except SteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    values = {"machine": machine("cpu"), "tasks": found}
    write_atomic(RESULTS, (json.dumps(values, indent=1) + "\n").encode())
    parts = [_section(task, each) for task, each in found.items()]
    replace_section(ROOT / "docs" / "measures.md", "\n\n".join(parts))
    return 0


def _measure(task: str, options: argparse.Namespace) -> dict[str, Any]:
    texts = {
        method: load_corpus(str(path), "text").texts
        for method in METHODS
        if (path := options.reference / f"{task}-{method}.jsonl").exists()
    }
    real = load_corpus(str(options.data / f"{task}.jsonl"), "text").texts
    settings = EvaluationSettings(
        n=TEXTS, judges=(GEMMA,), prompt=f"{PROMPTS[task]} ", mauve_seeds=0
    )
    found = evaluate(texts, real, settings=settings, on_progress=_report)
    rows = {
        row.name: {key: row.estimates[key].to_json() for key in (*SHOWN, "summary")}
        for row in found.rows
    }
    return {"n": found.n, "verdict": found.verdict, "rows": rows}


def _report(progress: EvaluationProgress) -> None:
    print(f"{progress.stage}: {progress.done} of {progress.total}", file=sys.stderr, flush=True)


def _section(task: str, found: dict[str, Any]) -> str:
    rows = found["rows"]
    ordered = sorted(rows, key=lambda name: -(rows[name]["summary"]["value"] or 0))
    lines = [
        [name, *(_cell(key, rows[name][key]) for key in SHOWN), _summary(rows[name]["summary"])]
        for name in ordered
    ]
    body = table(["", *SHOWN.values(), "summary"], lines)
    verdict = found["verdict"]
    heading = f"### {task.capitalize()}, {found['n']} texts a row"
    return f"{heading}\n\n{body}\n\n{verdict[:1].upper()}{verdict[1:]}."


def _cell(key: str, estimate: dict[str, Any]) -> str:
    return "-" if estimate["value"] is None else show(key, estimate["value"])


def _summary(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


if __name__ == "__main__":
    sys.exit(main())

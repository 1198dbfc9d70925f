"""The measures measured (docs/measures.md): `python -m benchmarks.measures WHAT --data FOLDER`.

    table --reference FOLDER   texts that the authors of the paper published; the judge is Gemma 3
                               270M, of another family than the model that wrote them (Falcon-7B)
    fresh                      real texts as if they were a method's, on three tasks
    speed                      1,000 texts against 1,000, without a judge

DATA/TASK.jsonl are the real texts, and REFERENCE/TASK-METHOD.jsonl what a method made of them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.report import ROOT, replace_section, table
from steer.data.corpus import load_corpus
from steer.data.reading.settings import Reading
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
SCORES = ("fidelity_score", "diversity_score", "coherence_score", "non_copying_score", "summary")
RESULTS = ROOT / "benchmarks" / "results" / "measures.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures one thing; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measures", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("table", "fresh", "speed"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the real texts")
    parser.add_argument("--reference", type=Path, help="folder of the methods' texts")
    options = parser.parse_args(arguments)
    if options.what == "table" and not options.reference:
        parser.error("table needs --reference FOLDER")
    try:
        with quiet_logs():
            {"table": _table, "fresh": _fresh, "speed": _speed}[options.what](options)
    except SteerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _fresh(options: argparse.Namespace) -> None:
    """Prints the summary of real texts that pose as a method's, and of the row `real`."""
    for task in ("hypotheses", "commonsense", "comments"):
        path = options.data / f"{task}.jsonl"
        texts = load_corpus(str(path), "text", reading=Reading(skip_control=True)).texts
        n = min(TEXTS, len(texts) // 5)
        order = np.random.default_rng(0).permutation(len(texts))
        fresh, real = ([texts[i] for i in part] for part in (order[:n], order[n : 3 * n]))
        with tempfile.TemporaryDirectory() as folder:
            rest = Path(folder) / "rest.jsonl"
            lines = (json.dumps({"text": texts[i]}) for i in order[3 * n :])
            rest.write_text("\n".join(lines))
            settings = EvaluationSettings(judges=(f"ngrams:{rest}",), mauve_seeds=0)
            found = evaluate({"fresh": fresh}, real, settings=settings)
        for row in found.rows:
            parts = (f"{key} {_summary(row.estimates[key].to_json())}" for key in SCORES)
            print(f"{task}, {n} texts, {row.name}: {', '.join(parts)}", flush=True)


def _speed(options: argparse.Namespace) -> None:
    """Prints how long 1,000 texts take against 1,000, nothing being known of them before."""
    texts = load_corpus(str(options.data / "commonsense.jsonl"), "text").texts
    began = time.monotonic()
    evaluate({"a": texts[:1000]}, texts[1000:3000], settings=EvaluationSettings(cache=False))
    print(f"{time.monotonic() - began:.0f} s on {machine('cpu')}")


def _table(options: argparse.Namespace) -> None:
    """Measures both tasks, and writes the results and their tables."""
    found = {task: _measure(task, options) for task in PROMPTS}
    values = {"machine": machine("cpu"), "tasks": found}
    write_atomic(RESULTS, (json.dumps(values, indent=1) + "\n").encode())
    parts = [_section(task, each) for task, each in found.items()]
    replace_section(ROOT / "docs" / "measures.md", "\n\n".join(parts))


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
    sentence = fill(f"{verdict[:1].upper()}{verdict[1:]}.", 100)
    return f"{heading}\n\n{body}\n\n{sentence}"


def _cell(key: str, estimate: dict[str, Any]) -> str:
    return "-" if estimate["value"] is None else show(key, estimate["value"])


def _summary(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


if __name__ == "__main__":
    sys.exit(main())

r"""What weights of int8 give and cost on a CPU: `python -m benchmarks.rounding`.

    make demo
    .venv/bin/python -m benchmarks.rounding --expert build/demo/made/expert \
        --real build/demo/made/held_out.jsonl

Times steps of plain sampling and of STEER with weights of int8 and of the usual dtype, in turns,
for few rows; measures how likely held-out texts are to the expert with either, in nats a token; and
how good the records of either are, with the same seeds, against the held-out texts (a judge is
named by --judge). Texts are read and written by few rows, as a person would ask for them.

Writes benchmarks/results/rounding-cpu.json, or rounding-cpu-avx2.json and so on without bf16 in
hardware.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import require_place, run
from benchmarks.lab import Lab, prepare
from benchmarks.levers import step_seconds
from benchmarks.machine import machine, results_file
from benchmarks.ours import Endless
from benchmarks.pairs import Ratio
from benchmarks.table import Talk, keep
from steer.config import RunConfig, Sampling
from steer.data.corpus import Corpus, load_corpus
from steer.engines.hf.engine import HFEngine
from steer.engines.interface import Request
from steer.engines.live import Order
from steer.evaluation.evaluate import evaluate
from steer.evaluation.settings import EvaluationSettings
from steer.guidance import Stream
from steer.models.base import encode_texts
from steer.models.expert import Expert
from steer.runs.generation import generate

DTYPES = ("auto", "int8")
FIGURES = ("auroc", "nonsense", "diversity_score", "summary")


@dataclass(frozen=True)
class Plan:
    """Rows whose steps are timed, with so many tokens a record and so often; held-out texts to
    read, and records to write, by so many rows at a time."""

    rows: tuple[int, ...] = (1, 2, 4, 8, 16)
    tokens: int = 16
    repeats: int = 7
    texts: int = 200
    records: int = 200
    together: int = 4


TINY = Plan(rows=(1, 2), tokens=4, repeats=2, texts=4, records=0, together=2)


def speed(lab: Lab, plan: Plan, talk: Talk) -> list[dict[str, Any]]:
    """Times the steps: milliseconds with the usual dtype and with int8, and how many times as fast
    the second is."""
    engines = {dtype: Endless(lab.base, lab.adapter, dtype=dtype, device="cpu") for dtype in DTYPES}
    found = []
    for side in ("plain", "steer"):
        for rows in plan.rows:
            talk(f"steps of {side}, {rows} rows")
            times = [
                [1000 * step_seconds(engines[d], lab, side, rows, plan.tokens) for d in DTYPES]
                for _ in range(plan.repeats)
            ]
            usual, rounded = zip(*times, strict=True)
            point = {"side": side, "rows": rows, "auto": min(usual), "int8": min(rounded)}
            found.append(point | {"ratio": asdict(Ratio.of([u / r for u, r in times]))})
    return found


def likelihood(expert: Expert, dtype: str, texts: Sequence[str], together: int) -> float:
    """Mean negative log-likelihood of the texts, nats a token with the end of text, under the
    expert: each is a record that is forced on the engine."""
    engine = HFEngine(expert.base, expert.path, rows=together, dtype=dtype, device="cpu")
    task, end = expert.task, int(engine.tokenizer.eos_token_id)
    streams = (Stream("expert", 1.0, True, task.render()),)
    ids = encode_texts(engine.tokenizer, [task.completion(text) for text in texts])
    begun = [(*each, end) for each in ids]
    live = engine.live(max(map(len, begun)) + 1)
    total = 0.0
    for start in range(0, len(begun), together):
        part = begun[start : start + together]
        sampling = Sampling(max_new_tokens=1)
        live.add(Order(Request(n, streams, n), sampling, ids) for n, ids in enumerate(part))
        while live.busy:
            for wrote in live.step():
                if wrote.means:
                    total -= wrote.means["expert"] * len(part[wrote.id])
    return total / sum(map(len, begun))


def quality(
    expert: Expert, real: Corpus, plan: Plan, judge: str | None, talk: Talk
) -> dict[str, dict[str, Any]]:
    """Measures records of the expert with either dtype, of the same seeds, and real text."""
    sets = {}
    for dtype in DTYPES:
        talk(f"{plan.records} records, {dtype}")
        sampling = Sampling(max_new_tokens=expert.max_completion_tokens, temperature=0.9)
        config = RunConfig(n=plan.records, round_size=plan.records, sampling=sampling)
        engine = HFEngine(expert.base, expert.path, rows=plan.together, dtype=dtype, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            sets[dtype] = generate(config, real, expert, engine, Path(folder) / "run").texts
    talk("measuring")
    settings = EvaluationSettings(
        judges=(judge,) if judge else (), prompt=expert.task.prompt, base=expert.base
    )
    table = evaluate(sets, real, settings=settings).to_json()
    return {
        str(row["name"]): {name: row[name] for name in FIGURES if name in row}
        for row in table["rows"]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rounding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--expert", type=Path, required=True, help="a fitted expert")
    parser.add_argument("--real", required=True, help="texts that it was not fitted on")
    parser.add_argument("--judge", help="who judges coherence (docs/measures.md)")
    parser.add_argument("--out", type=Path, default=results_file("cpu", "rounding"))
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    return run(lambda: _run(options, console), console)


def _run(options: argparse.Namespace, console: Console) -> None:
    require_place(options.out)
    plan = TINY if options.model == "tiny" else Plan()
    talk, where = Talk(console), machine("cpu")
    expert, real = Expert.load(options.expert), load_corpus(options.real)
    with tempfile.TemporaryDirectory() as folder:
        lab = prepare(Path(folder), options.model, "cpu")
        found: dict[str, Any] = {"speed": speed(lab, plan, talk)}
    nats: dict[str, float] = {}
    for dtype in DTYPES:
        talk(f"held-out texts, {dtype}")
        nats[dtype] = likelihood(expert, dtype, real.texts[: plan.texts], plan.together)
    found["nats"] = nats
    if plan.records:
        found["quality"] = quality(expert, real, plan, options.judge, talk)
    keep(options.out, found, where, plan, console)


if __name__ == "__main__":
    sys.exit(main())

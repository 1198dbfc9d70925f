"""The records that a report shows token by token."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steer.data.corpus import Corpus
from steer.engines.choice import EngineSpec
from steer.engines.hf.engine import HFEngine
from steer.errors import SteerError
from steer.models.expert import Expert
from steer.report.material import Material
from steer.runs.launch import as_begun
from steer.runs.traces import Trace, Tracer


def make_traces(
    material: Material, real: Corpus, count: int, expert: Path | None
) -> Mapping[str, Sequence[Trace]]:
    """Traces the first `count` records of each method, by `expert` or that which its run names.
    Raises `SteerError` where one cannot be traced."""
    found, loaded = dict[str, Sequence[Trace]](), dict[tuple[str, str], tuple[Expert, HFEngine]]()
    for method in material.methods:
        records = method.run.records[:count]
        # Few-shot prompting has no expert to compare with.
        if not records or method.run.config.guidance.few_shot:
            continue
        folder = expert or method.run.sources.expert
        if folder is None:
            raise SteerError(f"{method.name} does not say which expert wrote it; give --expert")
        own = Expert.load(Path(folder))
        # In the dtype that wrote the records, or a trace would not be theirs.
        dtype = as_begun(EngineSpec(own.base, own.path), method.run.path).dtype
        key = str(folder), dtype
        if key not in loaded:
            loaded[key] = own, HFEngine(own.base, own.path, dtype=dtype)
        wrote, engine = loaded[key]
        found[method.name] = Tracer(method.run, wrote, real, engine).trace(records)
    return found


def describe_trace(method: str, trace: Trace) -> dict[str, Any]:
    """Gives a trace as the page's script reads it."""
    guidance = trace.guidance
    strengths = {name: getattr(guidance, name) for name in ("gamma", "eta", "rho", "alpha")}
    return {
        "method": method,
        "id": trace.id,
        "streams": trace.streams,
        "weights": [round(weight, 6) for weight in trace.weights],
        "dials": strengths,
        "published": guidance.weights == "published",
        "adaptive": guidance.adaptive,
        "tokens": trace.tokens,
    }

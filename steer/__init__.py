"""steer: from a small set of real texts to a large synthetic dataset.

Public names are loaded when they are first used, so that `steer --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steer.version import __version__

if TYPE_CHECKING:
    from steer.config import Guidance, Sampling
    from steer.data import Corpus, load_corpus
    from steer.engines.hf import HFEngine
    from steer.errors import SteerError
    from steer.evaluation import EvaluationSettings, evaluate
    from steer.expert import Expert, FitSettings, fit
    from steer.exporting import export
    from steer.generation import generate
    from steer.metrics.table import Evaluation
    from steer.processor import SteerLogitsProcessor
    from steer.records import Record, Reject
    from steer.runconfig import RunConfig
    from steer.store import Run

_MODULES = {
    "Corpus": "data",
    "Evaluation": "metrics.table",
    "EvaluationSettings": "evaluation",
    "Expert": "expert",
    "FitSettings": "expert",
    "Guidance": "config",
    "HFEngine": "engines.hf",
    "Record": "records",
    "Reject": "records",
    "Run": "store",
    "RunConfig": "runconfig",
    "Sampling": "config",
    "SteerError": "errors",
    "SteerLogitsProcessor": "processor",
    "evaluate": "evaluation",
    "export": "exporting",
    "fit": "expert",
    "generate": "generation",
    "load_corpus": "data",
}

__all__ = [
    "Corpus",
    "Evaluation",
    "EvaluationSettings",
    "Expert",
    "FitSettings",
    "Guidance",
    "HFEngine",
    "Record",
    "Reject",
    "Run",
    "RunConfig",
    "Sampling",
    "SteerError",
    "SteerLogitsProcessor",
    "__version__",
    "evaluate",
    "export",
    "fit",
    "generate",
    "load_corpus",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'steer' has no attribute {name!r}")
    value = getattr(import_module(f"steer.{_MODULES[name]}"), name)
    globals()[name] = value
    return value

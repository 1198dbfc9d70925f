"""steer: from a small set of real texts to a large synthetic dataset.

Public names are loaded when they are first used, so that `steer --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steer.version import __version__

if TYPE_CHECKING:
    from steer.comparison import Comparison, Setup, compare, evaluate_comparison, sweep
    from steer.config import Guidance, Sampling
    from steer.data import Corpus, load_corpus
    from steer.engines.hf import HFEngine
    from steer.engines.vllm import VLLMEngine
    from steer.errors import SteerError
    from steer.evaluation import EvaluationSettings, evaluate
    from steer.expert import Expert, FitSettings, fit
    from steer.exporting import export
    from steer.generation import generate, generate_together
    from steer.hub import Hub
    from steer.methods import Method, find_methods
    from steer.metrics.sets import Labelled
    from steer.metrics.table import Evaluation
    from steer.processor import SteerLogitsProcessor
    from steer.records import Record, Reject
    from steer.report import ReportSettings, write_report
    from steer.runconfig import RunConfig
    from steer.store import Run
    from steer.taskfiles import load_task, load_texts
    from steer.tasks import Task
    from steer.tuning import TuneSettings, Tuning, tune

_MODULES = {
    "Comparison": "comparison",
    "Corpus": "data",
    "Evaluation": "metrics.table",
    "EvaluationSettings": "evaluation",
    "Expert": "expert",
    "FitSettings": "expert",
    "Guidance": "config",
    "HFEngine": "engines.hf",
    "Hub": "hub",
    "Labelled": "metrics.sets",
    "Method": "methods",
    "Record": "records",
    "Reject": "records",
    "ReportSettings": "report",
    "Run": "store",
    "RunConfig": "runconfig",
    "Sampling": "config",
    "Setup": "comparison",
    "SteerError": "errors",
    "SteerLogitsProcessor": "processor",
    "Task": "tasks",
    "TuneSettings": "tuning",
    "Tuning": "tuning",
    "VLLMEngine": "engines.vllm",
    "compare": "comparison",
    "evaluate": "evaluation",
    "evaluate_comparison": "comparison",
    "export": "exporting",
    "find_methods": "methods",
    "fit": "expert",
    "generate": "generation",
    "generate_together": "generation",
    "load_corpus": "data",
    "load_task": "taskfiles",
    "load_texts": "taskfiles",
    "sweep": "comparison",
    "tune": "tuning",
    "write_report": "report",
}

__all__ = [
    "Comparison",
    "Corpus",
    "Evaluation",
    "EvaluationSettings",
    "Expert",
    "FitSettings",
    "Guidance",
    "HFEngine",
    "Hub",
    "Labelled",
    "Method",
    "Record",
    "Reject",
    "ReportSettings",
    "Run",
    "RunConfig",
    "Sampling",
    "Setup",
    "SteerError",
    "SteerLogitsProcessor",
    "Task",
    "TuneSettings",
    "Tuning",
    "VLLMEngine",
    "__version__",
    "compare",
    "evaluate",
    "evaluate_comparison",
    "export",
    "find_methods",
    "fit",
    "generate",
    "generate_together",
    "load_corpus",
    "load_task",
    "load_texts",
    "sweep",
    "tune",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'steer' has no attribute {name!r}")
    value = getattr(import_module(f"steer.{_MODULES[name]}"), name)
    globals()[name] = value
    return value

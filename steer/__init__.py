"""steer: from a small set of real texts to a large synthetic dataset.

Public names are loaded when they are first used, so that `steer --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steer.version import __version__

if TYPE_CHECKING:
    from steer.config import Guidance, RunConfig, Sampling
    from steer.data.catalog import load_task, load_texts
    from steer.data.corpus import Corpus, load_corpus
    from steer.data.hub import Hub
    from steer.data.tasks import Task
    from steer.engines.hf.engine import HFEngine
    from steer.engines.logits_processor import SteerLogitsProcessor
    from steer.engines.vllm.engine import VLLMEngine
    from steer.errors import SteerError
    from steer.evaluation.evaluate import evaluate
    from steer.evaluation.sets import Labelled
    from steer.evaluation.settings import EvaluationSettings
    from steer.evaluation.table import Evaluation
    from steer.experiments.comparison import Comparison, compare, evaluate_comparison, sweep
    from steer.experiments.setup import Setup
    from steer.experiments.tuning import TuneSettings, Tuning, tune
    from steer.methods import Method, find_methods
    from steer.models.fitting import Expert, FitSettings, fit
    from steer.report.report import ReportSettings, write_report
    from steer.runs.exporting import export
    from steer.runs.generation import generate, generate_together
    from steer.runs.records import Record, Reject
    from steer.runs.store import Run

_MODULES = {
    "Comparison": "experiments.comparison",
    "Corpus": "data.corpus",
    "Evaluation": "evaluation.table",
    "EvaluationSettings": "evaluation.settings",
    "Expert": "models.fitting",
    "FitSettings": "models.fitting",
    "Guidance": "config",
    "HFEngine": "engines.hf.engine",
    "Hub": "data.hub",
    "Labelled": "evaluation.sets",
    "Method": "methods",
    "Record": "runs.records",
    "Reject": "runs.records",
    "ReportSettings": "report.report",
    "Run": "runs.store",
    "RunConfig": "config",
    "Sampling": "config",
    "Setup": "experiments.setup",
    "SteerError": "errors",
    "SteerLogitsProcessor": "engines.logits_processor",
    "Task": "data.tasks",
    "TuneSettings": "experiments.tuning",
    "Tuning": "experiments.tuning",
    "VLLMEngine": "engines.vllm.engine",
    "compare": "experiments.comparison",
    "evaluate": "evaluation.evaluate",
    "evaluate_comparison": "experiments.comparison",
    "export": "runs.exporting",
    "find_methods": "methods",
    "fit": "models.fitting",
    "generate": "runs.generation",
    "generate_together": "runs.generation",
    "load_corpus": "data.corpus",
    "load_task": "data.catalog",
    "load_texts": "data.catalog",
    "sweep": "experiments.comparison",
    "tune": "experiments.tuning",
    "write_report": "report.report",
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

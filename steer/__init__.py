"""steer: from a small set of real texts to a large synthetic dataset.

Public names are loaded when they are first used, so that `steer --help` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steer.version import __version__ as __version__

if TYPE_CHECKING:  # `as` says to type checkers that a name is public
    from steer.config import Guidance as Guidance
    from steer.config import RunConfig as RunConfig
    from steer.config import Sampling as Sampling
    from steer.correction.correct import Corrected as Corrected
    from steer.correction.correct import correct as correct
    from steer.correction.selector import Sample as Sample
    from steer.correction.selector import Selector as Selector
    from steer.data.catalog import load_task as load_task
    from steer.data.catalog import load_texts as load_texts
    from steer.data.corpus import Corpus as Corpus
    from steer.data.corpus import load_corpus as load_corpus
    from steer.data.look import Look as Look
    from steer.data.look import look as look
    from steer.data.reading.settings import Reading as Reading
    from steer.data.tasks import Hub as Hub
    from steer.data.tasks import Task as Task
    from steer.engines.choice import EngineSpec as EngineSpec
    from steer.engines.hf.engine import HFEngine as HFEngine
    from steer.engines.logits_processor import SteerLogitsProcessor as SteerLogitsProcessor
    from steer.engines.vllm.engine import VLLMEngine as VLLMEngine
    from steer.errors import SteerError as SteerError
    from steer.evaluation.evaluate import evaluate as evaluate
    from steer.evaluation.sets import Labelled as Labelled
    from steer.evaluation.settings import EvaluationSettings as EvaluationSettings
    from steer.evaluation.table import Evaluation as Evaluation
    from steer.experiments.comparison import Comparison as Comparison
    from steer.experiments.comparison import compare as compare
    from steer.experiments.comparison import evaluate_comparison as evaluate_comparison
    from steer.experiments.comparison import sweep as sweep
    from steer.experiments.setup import Setup as Setup
    from steer.experiments.tuning import TuneSettings as TuneSettings
    from steer.experiments.tuning import Tuning as Tuning
    from steer.experiments.tuning import tune as tune
    from steer.methods import Method as Method
    from steer.methods import find_methods as find_methods
    from steer.models.adopting import adopt as adopt
    from steer.models.expert import Expert as Expert
    from steer.models.expert import FitSettings as FitSettings
    from steer.models.fitting import fit as fit
    from steer.report.report import ReportSettings as ReportSettings
    from steer.report.report import write_report as write_report
    from steer.runs.budget import Budget as Budget
    from steer.runs.cluster import Cluster as Cluster
    from steer.runs.exporting import Exported as Exported
    from steer.runs.exporting import ExportSettings as ExportSettings
    from steer.runs.exporting import export as export
    from steer.runs.generation import generate as generate
    from steer.runs.generation import generate_together as generate_together
    from steer.runs.launch import launch as launch
    from steer.runs.publishing import PublishSettings as PublishSettings
    from steer.runs.publishing import publish as publish
    from steer.runs.records import Record as Record
    from steer.runs.records import Reject as Reject
    from steer.runs.store import Run as Run

# At run time a module is imported when a name of it is first used.
_NAMES = {
    "config": "Guidance RunConfig Sampling",
    "correction.correct": "Corrected correct",
    "correction.selector": "Sample Selector",
    "data.catalog": "load_task load_texts",
    "data.corpus": "Corpus load_corpus",
    "data.look": "Look look",
    "data.reading.settings": "Reading",
    "data.tasks": "Hub Task",
    "engines.choice": "EngineSpec",
    "engines.hf.engine": "HFEngine",
    "engines.logits_processor": "SteerLogitsProcessor",
    "engines.vllm.engine": "VLLMEngine",
    "errors": "SteerError",
    "evaluation.evaluate": "evaluate",
    "evaluation.settings": "EvaluationSettings",
    "evaluation.sets": "Labelled",
    "evaluation.table": "Evaluation",
    "experiments.comparison": "Comparison compare evaluate_comparison sweep",
    "experiments.setup": "Setup",
    "experiments.tuning": "TuneSettings Tuning tune",
    "methods": "Method find_methods",
    "models.adopting": "adopt",
    "models.expert": "Expert FitSettings",
    "models.fitting": "fit",
    "report.report": "ReportSettings write_report",
    "runs.budget": "Budget",
    "runs.exporting": "ExportSettings Exported export",
    "runs.generation": "generate generate_together",
    "runs.cluster": "Cluster",
    "runs.launch": "launch",
    "runs.publishing": "PublishSettings publish",
    "runs.records": "Record Reject",
    "runs.store": "Run",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(["__version__", *_MODULES])


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # to which a misspelt name would then be of type Any, and no mistake

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'steer' has no attribute {name!r}")
        value = getattr(import_module(f"steer.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

"""Lab of a task of the study: its expert, its real texts, and comparisons of methods.

WORK/PART/TASK/seed-N/    a comparison (steer.experiments.comparison): a run for each method,
                          one evaluation
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.study.parts import part
from steer.data.corpus import Corpus, load_corpus
from steer.engines.choice import EngineSpec
from steer.engines.interface import Engine
from steer.evaluation.settings import EvaluationSettings
from steer.evaluation.table import Evaluation
from steer.experiments.comparison import (
    Comparison,
    compare,
    evaluate_comparison,
    run_folder,
    utility,
)
from steer.experiments.setup import Setup, spread
from steer.methods import Method, find_methods
from steer.models.expert import Expert
from steer.models.packaged import GEMMA
from steer.runs.generation import generate_together

JUDGED = 40  # texts of each row: the judge of another family takes most of the study's time
EXAMPLES = 8  # that the judge of another family reads before a text


@dataclass
class Lab:
    """Lab of a task: its expert, and its real texts."""

    work: Path
    task: str
    fitted: Expert | None = None
    """Another expert than the task's."""

    def __post_init__(self) -> None:
        self.expert = self.fitted or Expert.load(self.work / "experts" / self.task)
        self.fit = self.corpus("fit")

    @cached_property
    def engine(self) -> Engine:
        """Engine of the expert, loaded when first needed: not every step generates."""
        return EngineSpec(self.expert.base, self.expert.path).load()

    def corpus(self, name: str) -> Corpus:
        """Loads the real texts of a part."""
        labelled = "label" if self.expert.task.labels else None
        return load_corpus(str(part(self.work, self.task, name)), "text", labelled)

    @property
    def judges(self) -> tuple[str, str]:
        """Judges: an expert fitted on other real texts, and a model of another family."""
        return str(self.work / "experts" / f"{self.task}-judge"), GEMMA

    @property
    def prompt(self) -> str:
        """Prompt that the judge of another family reads before a text: real texts that nothing else
        reads, so that it knows what texts of the domain look like."""
        texts = self.corpus("judge").texts[:EXAMPLES]
        return "".join(f"{text}\n\n" for text in texts)

    def compare(self, methods: Sequence[str], name: str, seed: int, n: int) -> Comparison:
        """Makes a run of each method, for the part called `name`."""
        setup = Setup(
            self.fit,
            self.expert,
            self.engine,
            spread(n, self.expert.labels),
            self.expert.max_completion_tokens,
            seed=seed,
            expert_path=str(self.expert.path),
        )
        found = find_methods(",".join(methods), bool(self.expert.labels))
        out = self.folder(name, seed)
        done = compare((), setup, out)
        self._together([method for method in found if method.name not in _names(done)], setup, out)
        return compare(found, setup, out)

    def _together(self, methods: Sequence[Method], setup: Setup, out: Path) -> None:
        """Makes runs with equal sampling together, in the engine's batches: a run alone ends with
        few rows."""
        for sampling in dict.fromkeys(method.sampling for method in methods):
            jobs = {
                out / run_folder(method.name): method.configure(setup.shared, setup.max_new_tokens)
                for method in methods
                if method.sampling == sampling
            }
            for path in jobs:
                path.parent.mkdir(parents=True, exist_ok=True)
            generate_together(jobs, self.fit, self.expert, self.engine)
            print(f"{self.task}: {', '.join(path.name for path in jobs)}", flush=True)

    def folder(self, name: str, seed: int) -> Path:
        """Folder of the comparison of a part and a seed."""
        return self.work / name / self.task / f"seed-{seed}"

    def evaluate(self, found: Comparison, name: str, seed: int = 0) -> Evaluation:
        """Evaluates all runs of a comparison against the part called `name`, halved by `seed`."""
        settings = EvaluationSettings(
            seed=seed,
            judges=self.judges,
            judged=JUDGED,
            prompt=self.prompt,
            mauve_seeds=0,  # not to be trusted with so few texts
            utility=utility(self.expert.task),
        )
        return evaluate_comparison(found, self.corpus(name), self.fit, settings)


def _names(found: Comparison) -> set[str]:
    return {entry.name for entry in found.entries}

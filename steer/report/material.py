"""Material of a report: runs side by side, and their evaluation where there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steer.data.catalog import may_insult
from steer.data.questions import answer_balance, parse_question
from steer.errors import SteerError
from steer.experiments.comparison import Comparison, Entry
from steer.runs.measured import read_evaluation
from steer.runs.store import Run, Stream
from steer.shapes import Shape

REAL = "real"


@dataclass(frozen=True)
class MethodRun:
    """A run under the name of its method.

    `settings` are those to tell it from the others, `cell` its place in a sweep's grid;
    `seconds` is None where nobody took the time.
    """

    name: str
    run: Run
    settings: Mapping[str, Any]
    seconds: float | None = None
    cell: Mapping[str, float] | None = None

    @property
    def texts(self) -> list[str]:
        return [record.text for record in self.run.records]

    @property
    def attempts(self) -> int:
        return len(self.run.records) + len(self.run.rejects)

    @property
    def tokens(self) -> int:
        """Tokens generated, those of the rejects too."""
        return sum(attempt.tokens for attempt in (*self.run.records, *self.run.rejects))


@dataclass(frozen=True)
class Material:
    """Runs and evaluation of a report: `evaluation` is what `Evaluation.to_json` gave, `grid` names
    the two axes of a sweep."""

    methods: tuple[MethodRun, ...]
    command: str | None = None
    expert: str | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, str] | None = None
    evaluation: Mapping[str, Any] | None = None

    @property
    def explicit(self) -> bool:
        """Whether the texts may insult."""
        prompts = {method.run.sources.prompt for method in self.methods}
        return may_insult(self.task.get("name"), prompts)

    @property
    def shape(self) -> Shape | None:
        """Shape of the records, where all runs have the same."""
        found = {method.run.sources.shape for method in self.methods}
        return found.pop() if len(found) == 1 else None

    @property
    def asks(self) -> bool:
        """Whether the texts are multiple-choice questions."""
        return self.task.get("form") == "question"

    @property
    def unmeasured(self) -> list[str]:
        """Names of the methods that the evaluation left out."""
        rows = self.evaluation["rows"] if self.evaluation else []
        measured = {row["name"] for row in rows}
        return [method.name for method in self.methods if method.name not in measured]


def read_material(source: Path | Sequence[Path], table: Path | None = None) -> Material:
    """Reads a folder of `steer compare` or `steer sweep`, a run's folder, or several of these runs;
    and the `table` that `steer evaluate` wrote of them, where one is named.

    Raises `SteerError` when it is none of these, a file in it is damaged, no run has accepted
    records, or the table has none of the runs.
    """
    if not isinstance(source, Path):
        material = _several(source)
    elif (source / "comparison.json").is_file():
        material = _compared(source)
    else:
        material = _several([source])
    if not any(method.run.records for method in material.methods):
        raise SteerError(f"{source} has no accepted records yet; nothing to report")
    return material if table is None else _measured(material, table)


def _measured(material: Material, path: Path) -> Material:
    if not path.is_file():
        raise SteerError(f"there is no file {path}; steer evaluate writes one with --json")
    found = read_evaluation(path, "evaluate again, with --json")
    names = [method.name for method in material.methods]
    rows = [row for row in found["rows"] if row["name"] in (*names, REAL)]
    if not {row["name"] for row in rows} - {REAL}:
        there = ", ".join(str(row["name"]) for row in found["rows"])
        raise SteerError(
            f"{path} measures {there}, and not {', '.join(names)}; evaluate these runs (--json)"
        )
    return replace(material, evaluation=found | {"rows": rows})


def shape_of(source: Path | Sequence[Path]) -> Shape | None:
    """Finds the shape of the records of what a report is on: that of its first run. Raises
    `SteerError` as `read_material` does."""
    folders = [source] if isinstance(source, Path) else list(source)
    if isinstance(source, Path) and (source / "comparison.json").is_file():
        folders = [source / entry.run for entry in Comparison.open(source).entries]
    return Stream.open(folders[0]).sources.shape if folders else None


def _compared(folder: Path) -> Material:
    comparison = Comparison.open(folder)
    return Material(
        tuple(_method(folder, entry) for entry in comparison.entries),
        comparison.command,
        comparison.expert,
        comparison.task,
        comparison.grid,
        _evaluation(folder / "evaluation.json"),
    )


def _method(folder: Path, entry: Entry) -> MethodRun:
    run = Run.open(folder / entry.run)
    return MethodRun(entry.name, run, entry.settings, entry.seconds, entry.cell)


def _several(folders: Sequence[Path]) -> Material:
    if not folders:
        raise SteerError("there is nothing to report on; name a comparison or a run")
    short = [folder.resolve().name for folder in folders]
    unique = len({*short, REAL}) == len(short) + 1
    names = short if unique else [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise SteerError("a run is named twice; name each run once")
    runs = [Run.open(folder) for folder in folders]
    return Material(
        tuple(MethodRun(name, run, _chosen(run)) for name, run in zip(names, runs, strict=True))
    )


def _chosen(run: Run) -> dict[str, Any]:
    """Settings of guidance and sampling that are not the defaults."""
    config = run.config
    chosen = config.guidance.model_dump(exclude_defaults=True)
    return chosen | config.sampling.model_dump(exclude_defaults=True)


def _evaluation(path: Path) -> dict[str, Any] | None:
    """Reads the evaluation; None when there is none."""
    if not path.exists():
        return None
    return read_evaluation(path, "evaluate again, with the command that made the comparison")


def answer_shares(texts: Sequence[str]) -> tuple[int, dict[str, float]]:
    """Counts how many of `texts` are well-formed questions, and the share of each answer letter."""
    questions = [question for text in texts if (question := parse_question(text))]
    return len(questions), answer_balance(questions)

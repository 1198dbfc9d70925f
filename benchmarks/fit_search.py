"""Search of fit settings: `python -m benchmarks.fit_search --data TASK=FILE ... --work FOLDER`.

Of each corpus 200 texts are drawn that no fit sees, and 500 others, on which `steer fit` works as a
user's would (it holds out a tenth of them itself). Every setting is fitted on the same 500, and its
expert read on the same 200: nats a token, lower is better. Settings that are not varied are the
defaults. A line for each fit goes to FOLDER/fits.jsonl, so the same command goes on where it was
stopped; the table at its end has all lines of these corpora and sizes. The seconds are those of the
whole fit, models loaded and all; they hold only where nothing else runs, and CPU seconds elsewhere.

    python -m benchmarks.fit_search --data demo --work build/search --settings lr=3e-4,1e-3 epochs=1
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from benchmarks.command import run
from benchmarks.corpora import prompt_of, read_corpora
from benchmarks.machine import machine
from benchmarks.table import Talk
from steer.data.corpus import Corpus
from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models.base import attach_adapter, load_model, load_tokenizer, pick_device
from steer.models.examples import completions, encode
from steer.models.expert import Expert, FitSettings
from steer.models.fitting import fit
from steer.models.layouts import completion_loss, find_layout, split_passes
from steer.models.machine import use_cpus
from steer.models.training import FitProgress

Setting = Mapping[str, float]
"""Values of some fields of `FitSettings`, by name."""

VARIED: dict[str, Sequence[float]] = {
    "lr": (3e-4, 6e-4, 1e-3, 2e-3),
    "epochs": (2, 1),
    "batch": (8, 4),
}
"""Values that are tried, all with all; the first of each are what the others are set beside."""

FILE = "fits.jsonl"
NONE: Setting = {}
"""No fit at all: the base model."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of texts: `texts` to fit on, and `unseen` to read."""

    texts: int = 500
    unseen: int = 200


@dataclass(frozen=True)
class Parts:
    """Texts of a corpus: those to fit on, and those to read."""

    to_fit: Sequence[str]
    unseen: Sequence[str]

    @classmethod
    def draw(cls, task: str, texts: Sequence[str], sizes: Sizes) -> "Parts":
        """Draws both from the different `texts`, the same each time. Raises `SteerError` when they
        are too few."""
        different = list(dict.fromkeys(texts))
        if len(different) < sizes.texts + sizes.unseen:
            raise SteerError(
                f"{task} has {len(different)} different texts, fewer than {sizes.texts} to fit on "
                f"and {sizes.unseen} to read; lower --texts or --unseen"
            )
        random.Random(0).shuffle(different)
        return cls(different[sizes.unseen :][: sizes.texts], different[: sizes.unseen])


class Search:
    """A search on its way: the lines so far, and the corpora by name."""

    def __init__(
        self, folder: Path, corpora: Mapping[str, Parts], sizes: Sizes, base: str | None
    ) -> None:
        self.path, self.corpora, self.base = folder / FILE, corpora, base
        self.sizes = asdict(sizes)
        self.lines = [line for line in read_lines(self.path) if self._is_ours(line)]

    def find(self, task: str, setting: Setting) -> dict[str, Any] | None:
        """Finds the line of a fit that was done."""
        found = (x for x in self.lines if (x["task"], x["setting"]) == (task, dict(setting)))
        return next(found, None)

    def do(self, task: str, setting: Setting) -> None:
        """Fits and reads, and writes the line."""
        parts = self.corpora[task]
        began, cpu, clock = time.perf_counter(), time.process_time(), _Clock()
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            expert, measured = None, {}
            if setting:
                expert = fit(
                    Corpus.of(parts.to_fit),
                    prompt_of(task),
                    Path(folder) / "expert",
                    self.base,
                    FitSettings.model_validate(setting),
                    clock,
                )
                measured = {
                    "seconds": round(time.perf_counter() - began, 2),
                    "cpu_seconds": round(time.process_time() - cpu, 2),
                    "tokens": clock.tokens,
                    "held_out": [round(each.held_out, 4) for each in expert.losses],
                }
            loss = unseen_loss(expert, prompt_of(task), parts.unseen, self.base)
        line = {
            "task": task,
            "setting": dict(setting),
            "loss": round(loss, 4),
            **measured,
            **self.sizes,
            "base": self.base,
            "machine": machine(pick_device("auto").type),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)

    def _is_ours(self, line: Mapping[str, Any]) -> bool:
        sizes = {name: line[name] for name in self.sizes}
        return line["task"] in self.corpora and sizes == self.sizes and line["base"] == self.base


class _Clock:
    """Listens to a fit: the tokens that it trained on."""

    tokens = 0

    def __call__(self, progress: FitProgress) -> None:
        self.tokens = max(self.tokens, progress.tokens)


def unseen_loss(
    expert: Expert | None, prompt: str, texts: Sequence[str], base: str | None
) -> float:
    """Nats a completion token of `texts`, by the expert or the base model alone; texts longer than
    a fit reads are passed over."""
    settings, tokenizer = FitSettings(), load_tokenizer(base)
    task = expert.task if expert else Task(prompt).suited_to(texts)
    encoded = encode(Corpus.of(texts), task, tokenizer)
    encoded = [each for each in encoded if len(each["input_ids"]) <= settings.max_tokens]
    model: Any = load_model(base)
    if expert:
        model = attach_adapter(model, expert.path)
    model.eval()
    layout = find_layout(model, encoded, int(tokenizer.pad_token_id))
    with torch.no_grad():
        passes = split_passes(layout, encoded, settings.pass_tokens)
        nats = sum(completion_loss(model, layout.lay_out(part)).item() for part in passes)
    return float(nats / completions(encoded))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of a search; one that was cut off at the end is removed from the file."""
    if not path.exists():
        return []
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def grid(given: Sequence[str]) -> list[Setting]:
    """Makes every combination of `VARIED`, of which NAME=VALUE,VALUE in `given` replaces some.
    Raises `SteerError` for what is no setting of a fit."""
    varied = dict(VARIED)
    for each in given:
        name, _, values = each.partition("=")
        try:
            varied[name] = [_number(value) for value in values.split(",")]
        except ValueError:
            raise SteerError(f"found the setting {each!r}; give NAME=VALUE,VALUE") from None
    found: list[Setting] = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    for setting in found:
        try:
            FitSettings.model_validate(setting)
        except (SteerError, ValidationError) as error:
            raise SteerError(f"no fit has the settings {words(setting)}: {error}") from None
    return found


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def words(setting: Setting) -> str:
    """Writes a setting in one line."""
    return " ".join(f"{name}={value:g}" for name, value in setting.items()) or "no fit"


def show(search: Search, settings: Sequence[Setting], console: Console) -> None:
    """Prints loss and time of each setting, and how far its losses are below those of the first, on
    average over the corpora that have both."""
    tasks = list(search.corpora)
    table = Table("settings", title="Nats a token on unseen texts; seconds, and CPU seconds")
    for task in tasks:
        table.add_column(task)
    table.add_column("beside the first")
    losses = {task: [_loss(search, task, setting) for setting in settings] for task in tasks}
    lowest = {
        task: min((loss for loss in found if loss is not None), default=None)
        for task, found in losses.items()
    }
    for row, setting in enumerate([*settings, NONE]):
        cells, gains = [], []
        for task in tasks:
            line = search.find(task, setting)
            cells.append(_cell(line, lowest[task]))
            first = losses[task][0]
            if line and first is not None:
                gains.append(line["loss"] - first)
        mean = f"{statistics.mean(gains):+.3f}" if gains and row else ""
        table.add_row(words(setting), *cells, mean)
    console.print(table)


def _loss(search: Search, task: str, setting: Setting) -> float | None:
    line = search.find(task, setting)
    return line["loss"] if line else None


def _cell(line: Mapping[str, Any] | None, lowest: float | None) -> str:
    if line is None:
        return ""
    mark = "*" if line["loss"] == lowest else ""
    took = f" ({line['seconds']:.0f} s, {line['cpu_seconds']:.0f})" if "seconds" in line else ""
    return f"{line['loss']:.3f}{mark}{took}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Searches and prints the table; returns the exit code."""
    console = Console(stderr=True)
    options = _parser().parse_args(arguments)
    return run(lambda: _run(options, console), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fit_search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", default=["demo"], metavar="TASK=FILE")
    parser.add_argument("--work", type=Path, required=True, help="folder of the lines")
    parser.add_argument("--settings", nargs="+", default=[], metavar="NAME=VALUES")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    parser.add_argument("--base", help="base model (the default)")
    return parser


def _run(options: argparse.Namespace, console: Console) -> None:
    sizes, settings = Sizes(options.texts, options.unseen), grid(options.settings)
    found = read_corpora(options.data)
    corpora = {task: Parts.draw(task, texts, sizes) for task, texts in found.items()}
    options.work.mkdir(parents=True, exist_ok=True)
    search, report = Search(options.work, corpora, sizes, options.base), Talk(console)
    use_cpus()
    # All corpora for a setting, then the next: what is there when it is stopped can be compared.
    jobs = [(task, setting) for setting in [NONE, *settings] for task in corpora]
    for number, (task, setting) in enumerate(jobs, 1):
        if search.find(task, setting) is None:
            report(f"{number} of {len(jobs)}: {task}, {words(setting)}")
            search.do(task, setting)
    show(search, settings, console)


if __name__ == "__main__":
    sys.exit(main())

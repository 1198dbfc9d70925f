"""Starting and fitting, beside an older version: `python -m benchmarks.before --old OLD/bin/steer`.

Both versions are run in turns (old, new, old, new ...), each in a process of its own, with the same
files. Seconds count from the start of the process.

- help: `steer --help`, whole.
- start: `steer generate EXPERT --real FILE --n 1` until its first decoding step is done; without
  --expert, one that the older version fitted on 40 texts.
- loss: `steer fit FILE`, with the defaults of each version, on the first texts of FILE without
  their labels, so that both hold out the same ones (checked). How long the newer one takes until a
  test shows the lowest held-out loss of the older one or less, over the time of the older one's
  command; and both commands, whole. TASK=FILE names a corpus; TASK alone is the demo's.

Adds its ratios to the results of `make bench`, each as soon as it is measured.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import require_place, run
from benchmarks.corpora import DEMO, docstrings, first_texts, prompt_of, read_corpora
from benchmarks.machine import machine, results_file
from benchmarks.pairs import Ratio
from benchmarks.table import Talk, add, how, read, show
from examples.docstrings import write_corpus
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.models.base import pick_device

ROOT = Path(__file__).parent.parent
PARTS = ("help", "start", "loss")
SMALL = 40  # texts of the expert that is only to be started with
MOST_TEXTS = 2000  # of more than these the newer version holds out a smaller share
SAME = 0.02  # nats: what rounding may change of the base model's loss


@dataclass(frozen=True)
class Side:
    """A version of steer: its Python, and the folder that its package is in where it is not
    installed there."""

    name: str
    python: Path
    source: Path | None = None

    @contextmanager
    def runs(self, command: Sequence[object]) -> Iterator["Running"]:
        """Starts `python -P *command`, which is killed at the end if it still runs. Raises
        `SteerError` when it failed."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        if self.source:
            environment["PYTHONPATH"] = str(self.source)
        with tempfile.TemporaryFile("w+") as errors:
            began = time.perf_counter()
            process = subprocess.Popen(
                [str(self.python), "-P", *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
            try:
                yield Running(process, began)
                if process.returncode:
                    errors.seek(0)
                    reason = errors.read().strip().splitlines()[-1:] or ["it said nothing"]
                    raise SteerError(f"the {self.name} version failed: {reason[0]}")
            finally:
                process.kill()
                process.wait()

    def version(self) -> str:
        """Version as it says itself, and the commit where it is in a checkout."""
        with self.runs(["-m", "steer", "--version"]) as running:
            said = running.rest().strip()
        command = [
            "git",
            "-C",
            str(self.source or self.python.parent),
            "rev-parse",
            "--short",
            "HEAD",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        return f"{said} ({done.stdout.strip()})" if done.returncode == 0 else said


@dataclass(frozen=True)
class Running:
    """A process on its way."""

    process: "subprocess.Popen[str]"
    began: float

    def events(self) -> Iterator[tuple[float, str]]:
        """Gives each line that `watched` printed, with the seconds since the process began."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("@"):
                yield time.perf_counter() - self.began, line[1:].strip()

    def rest(self) -> str:
        """Waits for the end; gives what was not read of the output."""
        return self.process.communicate()[0]


@dataclass(frozen=True)
class Fit:
    """A fit: its whole seconds, the held-out loss of each test and when it was known (the first is
    the base model's), and the rows it held out."""

    seconds: float
    tests: tuple[tuple[float, float], ...]
    held_out: tuple[int, ...]

    @property
    def lowest(self) -> float:
        return min(loss for _, loss in self.tests[1:])

    def until(self, loss: float) -> float | None:
        """Seconds until a test of the fitted model showed `loss` or less; None if none did."""
        return next((seconds for seconds, found in self.tests[1:] if found <= loss), None)

    def to_json(self) -> dict[str, Any]:
        """Its numbers without its rows."""
        return {
            "seconds": round(self.seconds, 2),
            "held_out_texts": len(self.held_out),
            "tests": [[round(seconds, 2), round(loss, 4)] for seconds, loss in self.tests],
        }


@dataclass(frozen=True)
class Plan:
    """Numbers of repeats: `repeats` of starting, `fits` of each fit; and of texts of a fit."""

    repeats: int = 5
    fits: int = 1
    texts: int = 800


class Before:
    """The comparisons; each gives its ratios by name, and what else is known of it."""

    def __init__(
        self, old: Side, new: Side, folder: Path, plan: Plan, report: Callable[[str], None]
    ) -> None:
        self.old, self.new, self.folder = old, new, folder
        self.plan, self.report = plan, report

    def help(self) -> tuple[dict[str, Ratio], dict[str, Any]]:
        """Compares `steer --help`."""
        return self._starts("help_over_before", "steer --help", lambda side, _: helped(side))

    def start(self, expert: Path | None, real: Path) -> tuple[dict[str, Ratio], dict[str, Any]]:
        """Compares the time until the first token."""
        if expert is None:
            expert = self._small_expert(real)

        def started(side: Side, number: int) -> float:
            return first_token(side, expert, real, self.folder / f"run-{side.name}-{number}")

        return self._starts("steer_start_over_before", "the first token", started)

    def loss(self, task: str, texts: Sequence[str]) -> tuple[dict[str, Ratio], dict[str, Any]]:
        """Compares fits on the texts."""
        corpus = self.folder / f"{task}.jsonl"
        write_corpus(first_texts(task, texts, self.plan.texts), corpus)
        pairs = []
        for repeat in range(self.plan.fits):
            fits = []
            for side in (self.old, self.new):
                self.report(f"fit {repeat + 1} of {self.plan.fits} on {task}: {side.name}")
                out = self.folder / f"{task}-{side.name}-{repeat}"
                fits.append(fitted(side, corpus, prompt_of(task), out))
            require_same_test(task, *fits)
            pairs.append((fits[0], fits[1]))
        return compared(task, pairs)

    def _starts(
        self, name: str, what: str, measure: Callable[[Side, int], float]
    ) -> tuple[dict[str, Ratio], dict[str, Any]]:
        """Compares seconds, after a run of each side that is not counted."""
        seconds: dict[str, list[float]] = {self.old.name: [], self.new.name: []}
        for repeat in range(self.plan.repeats + 1):
            for side in (self.old, self.new):
                about = f"{repeat} of {self.plan.repeats}" if repeat else "warming up"
                self.report(f"{what}, {about}: {side.name}")
                took = measure(side, repeat)
                if repeat:
                    seconds[side.name].append(took)
        pairs = zip(seconds[self.new.name], seconds[self.old.name], strict=True)
        ratio = Ratio.of([new / old for new, old in pairs])
        return {name: ratio}, {"seconds": spreads(seconds)}

    def _small_expert(self, real: Path) -> Path:
        self.report(f"a small expert: {self.old.name}")
        corpus, out = self.folder / "few.jsonl", self.folder / "small"
        write_corpus(list(load_corpus(str(real)).texts[:SMALL]), corpus)
        fitted(self.old, corpus, prompt_of(""), out, "--epochs", 1)
        return out


def helped(side: Side) -> float:
    """Seconds of `steer --help`."""
    with side.runs(["-m", "steer", "--help"]) as running:
        running.rest()
        return time.perf_counter() - running.began


def first_token(side: Side, expert: Path, real: Path, out: Path) -> float:
    """Seconds until a run of one record has gone its first step; it is killed then."""
    what = ["generate", expert, "--real", real, "--n", 1, "--out", out]
    with side.runs([ROOT / "benchmarks" / "watched.py", *what]) as running:
        for seconds, event in running.events():
            if event == "token":
                return seconds
        running.rest()
    raise SteerError(f"the {side.name} version ended without a token")


def fitted(side: Side, corpus: Path, prompt: str, out: Path, *more: object) -> Fit:
    """Fits an expert at `out`, with the defaults but for `more`."""
    what = ["fit", corpus, "--prompt", prompt, "--out", out, *more]
    with side.runs([ROOT / "benchmarks" / "watched.py", *what]) as running:
        tests = [
            (seconds, float(event.removeprefix("loss ")))
            for seconds, event in running.events()
            if event.startswith("loss ")
        ]
        running.rest()
        seconds = time.perf_counter() - running.began
    card = json.loads((out / "expert.json").read_text("utf-8"))
    return Fit(seconds, tuple(tests), tuple(card["held_out"]))


def require_same_test(task: str, old: Fit, new: Fit) -> None:
    """Raises `SteerError` unless both losses are of the same texts, read in the same way."""
    if old.held_out != new.held_out:
        raise SteerError(
            f"the versions hold out other texts of {task}, so their losses cannot be compared; "
            f"give fewer than {MOST_TEXTS} texts (--texts)"
        )
    if abs(old.tests[0][1] - new.tests[0][1]) > SAME:
        raise SteerError(
            f"the base model's loss on the same texts of {task} is {old.tests[0][1]:.3f} in one "
            f"version and {new.tests[0][1]:.3f} in the other; they read the texts otherwise"
        )


def compared(
    task: str, pairs: Sequence[tuple[Fit, Fit]]
) -> tuple[dict[str, Ratio], dict[str, Any]]:
    """Makes the ratios of fits by an old and a new version. Where a new one never reached the
    loss, only the whole times are compared."""
    wholes = [new.seconds / old.seconds for old, new in pairs]
    ratios = {f"fit_time_over_before_{task}": Ratio.of(wholes)}
    reached = [(new.until(old.lowest), old.seconds) for old, new in pairs]
    if all(seconds is not None for seconds, _ in reached):
        shares = [seconds / old for seconds, old in reached if seconds is not None]
        ratios = {f"fit_time_to_loss_over_before_{task}": Ratio.of(shares), **ratios}
    seconds = {
        "before": [old.seconds for old, _ in pairs],
        "now": [new.seconds for _, new in pairs],
        "now, until the loss": [seconds for seconds, _ in reached if seconds is not None],
    }
    lowest = [min(fit.lowest for fit in side) for side in zip(*pairs, strict=True)]
    note = f"lowest held-out loss {lowest[0]:.3f} before and {lowest[1]:.3f} now"
    if len(ratios) == 1:
        note += ", so that of before was not reached"
    return ratios, {
        "seconds": spreads(seconds),
        "note": note,
        "fits": [{"before": old.to_json(), "now": new.to_json()} for old, new in pairs],
    }


def spreads(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each that has any."""
    return {name: asdict(Ratio.of(found)) for name, found in seconds.items() if found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and adds; returns the exit code."""
    console = Console(stderr=True)
    options = _parser().parse_args(arguments)
    return run(lambda: _run(options, console), console)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.before",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--old", type=Path, required=True, help="the older version's bin/steer")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--data", nargs="+", default=["demo"], metavar="TASK=FILE")
    parser.add_argument("--expert", type=Path, help="an expert that both versions can read")
    parser.add_argument("--real", type=Path, help="texts to start with (the demo's)")
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"({value})")
    parser.add_argument("--out", type=Path, help="results file (that of make bench)")
    return parser


def _run(options: argparse.Namespace, console: Console) -> None:
    old, new = _sides(options.old)
    plan = Plan(options.repeats, options.fits, options.texts)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SteerError(f"--only is {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if plan.texts > MOST_TEXTS:
        raise SteerError(
            f"--texts is {plan.texts}; of more than {MOST_TEXTS} the versions hold out other ones"
        )
    corpora = read_corpora(options.data if "loss" in parts else ())
    device = pick_device("auto").type
    out = options.out or results_file(device)
    require_place(out)
    read(out)
    settings = {**asdict(plan), "old": old.version(), "new": new.version()}
    where, report = machine(device), Talk(console)
    with tempfile.TemporaryDirectory() as name:
        before = Before(old, new, Path(name), plan, report)
        if options.real is None:
            options.real = Path(name) / "real.jsonl"
            write_corpus(first_texts(DEMO, docstrings(), plan.texts), options.real)
        jobs = [(part, _job(before, part, options)) for part in parts if part != "loss"]
        jobs += [(f"loss, {task}", _fit(before, task, corpora[task])) for task in corpora]
        for part, job in jobs:
            ratios, more = job()
            show(ratios, [], console)
            command = f"python -m benchmarks.before --only {part.partition(',')[0]}"
            add(out, f"before, {part}", ratios, how(command, where, settings) | more)
            console.print(f"Added to {out}", highlight=False, markup=False)


Measured = tuple[dict[str, Ratio], dict[str, Any]]


def _job(before: Before, part: str, options: argparse.Namespace) -> Callable[[], Measured]:
    if part == "help":
        return before.help
    return lambda: before.start(options.expert, options.real)


def _fit(before: Before, task: str, texts: Sequence[str]) -> Callable[[], Measured]:
    return lambda: before.loss(task, texts)


def _sides(old: Path) -> tuple[Side, Side]:
    """Both versions: the one installed beside `old`, and this one."""
    python = old.parent / "python"
    if not python.is_file():
        raise SteerError(f"there is no {python}; give the bin/steer of a virtual environment")
    return Side("before", python.absolute()), Side("now", Path(sys.executable), ROOT)


if __name__ == "__main__":
    sys.exit(main())

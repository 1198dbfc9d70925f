"""Progress as a user sees it: live bars on a terminal, a plain line now and then elsewhere."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from steer.cli.terminal import safe
from steer.data.characters import printable
from steer.errors import counted

if TYPE_CHECKING:  # these load model libraries
    from steer.evaluation import evaluate as evaluation
    from steer.experiments import comparison
    from steer.experiments import tuning as _tuning
    from steer.models.training import FitProgress
    from steer.runs import generation

PLAIN_SECONDS = 9.0
"""How often progress is printed where there is no terminal to redraw, news or none."""

EARLY, PATIENCE = 0.05, 120.0
"""A share of the work too small to say from what time is left, and seconds until it is said all the
same."""

OTHERS_WIDTH = 25
"""Columns of a terminal that the spinner, the stage, the time and the gaps take."""


class Meter:
    """Progress of one job, on standard error so that standard output stays clean.

    A job goes through stages; each has its own bar. On a terminal the bar moves and a spinner
    turns even between updates; elsewhere the first and last update of a stage are lines, and
    there is one more every `PLAIN_SECONDS`, also where nothing new came.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        bar = min(24, max(6, self._console.width - 80))
        self._room = self._console.width - bar - OTHERS_WIDTH
        self._live = _bars(self._console, bar) if self._console.is_terminal else None
        self._stage: str | None = None
        self._task = TaskID(0)
        self._began = self._printed = self._first = self._done = self._total = 0.0
        self._note = self._left = ""
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._repeat, daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        else:
            self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._close(finished=kind is None)
        if self._live:
            self._live.stop()

    def update(self, stage: str, done: float = 0, total: float = 0, note: str = "") -> None:
        """Shows that `stage` is at `done` of `total` (0: not known), with a short note."""
        if stage != self._stage:
            self._close()
            self._open(stage, done)
        self._done, self._total, self._note = done, total, note
        self._left = self._time_left()
        if self._live:
            note = safe(self._remark()[: self._room])  # else Rich would squeeze the bar
            self._live.update(self._task, completed=done, total=total or None, note=note)
        elif time.monotonic() - self._printed >= PLAIN_SECONDS:
            self._print()

    def say(self, line: str) -> None:
        """Prints a line that stays in view."""
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def _open(self, stage: str, done: float) -> None:
        self._stage, self._first = stage, done
        self._began, self._printed = time.monotonic(), -PLAIN_SECONDS
        if self._live:
            self._task = self._live.add_task(safe(stage), total=None, note="")

    def _close(self, finished: bool = True) -> None:
        """Closes a stage that is over: its bar stays, full if it was finished."""
        if self._stage is None:
            return
        if self._live:
            self._live.stop_task(self._task)
            if finished and not self._total:
                self._live.update(self._task, completed=1, total=1)
        elif finished and self._done != self._first:
            self._print()

    def _repeat(self) -> None:
        """Says how long a stage has taken, where its updates are far apart."""
        while not self._over.wait(PLAIN_SECONDS / 3):
            if self._stage and time.monotonic() - self._printed >= PLAIN_SECONDS:
                self._print(f"{duration(time.monotonic() - self._began)} so far")

    def _print(self, more: str = "") -> None:
        self._printed = time.monotonic()
        remark = ", ".join(filter(None, (self._remark(), more)))
        self.say(f"{self._stage}: {remark}" if remark else f"{self._stage} ...")

    def _remark(self) -> str:
        return ", ".join(filter(None, (self._note, self._left)))

    def _time_left(self) -> str:
        """Estimates the time left from the pace of this stage since its first update; not in its
        first minutes by the first few of many: rows that decode together end together."""
        gained, missing = self._done - self._first, self._total - self._done
        if gained <= 0 or missing <= 0:
            return ""
        seconds = time.monotonic() - self._began
        early = gained < EARLY * (gained + missing) and seconds < PATIENCE
        return "" if early else f"{duration(seconds * missing / gained)} left"


@contextmanager
def on_stop(advice: str | Callable[[], str]) -> Iterator[None]:
    """Says what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        said = advice if isinstance(advice, str) else advice()
        with suppress(OSError):  # the terminal may be gone
            print(printable(f"stopped: {said}"), file=sys.stderr)
        raise


def _bars(console: Console, width: int) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=width),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    )


def duration(seconds: float) -> str:
    """Writes seconds as words, such as "45 s", "3 min" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def fitting(meter: Meter) -> "Callable[[FitProgress], None]":
    """Shows a fit: epoch, losses, whether it overfits, tokens a second, time left (less if it stops
    early)."""
    losses: dict[str, float] = {}
    lowest = math.inf
    done = total = 0.0
    fits = True

    def update(progress: "FitProgress") -> None:
        nonlocal lowest, done, total, fits
        if progress.stage == "load":
            meter.update("loading")
            if progress.memory:
                meter.say(_work(progress))
            return
        if progress.stage in ("ends", "save"):
            if fits:  # its bar is full, also if it stops early
                meter.update("fitting", total, total, _losses(losses, lowest))
            fits = False
            name = "saving" if progress.stage == "save" else "reading where texts end"
            meter.update(name, progress.done, progress.total)
            return
        found = {"loss": progress.loss, "held-out": progress.held_out_loss}
        losses.update({name: loss for name, loss in found.items() if loss is not None})
        lowest = min(lowest, losses.get("held-out", math.inf))
        done, total = progress.done, progress.total
        epoch = f"epoch {progress.epoch}/{progress.epochs}"
        is_testing = progress.stage == "evaluate" and progress.held_out_loss is None
        testing = "testing" if is_testing else ""
        speed = f"{progress.tokens_per_second:.0f} tokens/s" if progress.tokens else ""
        parts = (epoch, testing, _losses(losses, lowest), speed)
        meter.update("fitting", done, total, ", ".join(filter(None, parts)))

    return update


def _work(progress: "FitProgress") -> str:
    """Writes what a fit is to do, before it does."""
    counts = {"text": progress.texts, "epoch": progress.epochs, "step": progress.steps}
    work = ", ".join(counted(number, what) for what, number in counts.items())
    memory = f"about {progress.memory / 2**30:.1f} GiB of memory"
    return f"to fit: {work}, {progress.total:,.0f} tokens; {memory}"


def _losses(losses: Mapping[str, float], lowest: float) -> str:
    """Writes the last losses, and how far the held-out one is above the lowest."""
    parts = [f"{name} {losses[name]:.2f}" for name in ("loss", "held-out") if name in losses]
    if (rise := losses.get("held-out", lowest) - lowest) > 0:
        parts[-1] += f" ({rise:.2f} above the lowest: it overfits)"
    return ", ".join(parts)


def generating(meter: Meter) -> "Callable[[generation.RunProgress], None]":
    """Shows a run: accepted of n, tokens a second, acceptance rate, time left; on several workers
    also how many are ready, the rounds being made, and records a second."""
    began: float | None = None
    first = 0

    def update(progress: "generation.RunProgress") -> None:
        nonlocal began, first
        if began is None:
            began, first = time.monotonic(), progress.accepted
        seconds = time.monotonic() - began
        _show_run(meter, "generating", progress, seconds, progress.accepted - first)

    return update


def _show_run(
    meter: Meter, stage: str, progress: "generation.RunProgress", seconds: float, gained: int = 0
) -> None:
    rate = progress.acceptance_rate
    if rate is None and not progress.tokens and progress.workers is None:
        meter.update(stage)  # panels are being read, which may take minutes
        return
    notes = [f"{progress.accepted}/{progress.wanted} accepted"]
    if rate is not None:
        notes[0] += f" at {rate:.0%}"
    elif progress.finished:
        notes.append(f"{progress.finished} of the first {progress.round_size} attempts written")
    if progress.workers is not None:
        notes.append(counted(progress.workers, "worker"))
        notes.append(f"{counted(progress.rounds, 'round')} in flight")
        if gained and seconds > 1:
            notes.append(f"{gained / seconds:,.3g} records/s")
    elif progress.tokens and seconds > 1:
        notes.append(f"{progress.tokens / seconds:,.0f} tokens/s")
    # Records in the making count as far as they will be accepted, so that the bar moves.
    meter.update(stage, progress.expected, progress.wanted, ", ".join(notes))


def comparing(
    meter: Meter, names: Sequence[str]
) -> "Callable[[comparison.Entry, generation.RunProgress], None]":
    """Shows the run of each method in turn."""
    began, current = 0.0, ""

    def update(entry: "comparison.Entry", progress: "generation.RunProgress") -> None:
        nonlocal began, current
        if entry.name != current:
            began, current = time.monotonic(), entry.name
        stage = f"{entry.name} ({names.index(entry.name) + 1} of {len(names)})"
        _show_run(meter, stage, progress, time.monotonic() - began)

    return update


def tuning(meter: Meter) -> "Callable[[_tuning.TuneProgress], None]":
    """Shows a tuning: trials, the best so far, what the trial being made is doing."""
    budget: float | None = None

    def update(progress: "_tuning.TuneProgress") -> None:
        nonlocal budget
        budget = budget or progress.seconds_left or 1.0
        limit = f" of {progress.limit}" if progress.limit else ""
        best = "" if progress.best is None else f"best {progress.best:.3f}"
        doing = f"trial {progress.number}: {progress.stage}"
        note = ", ".join(filter(None, (f"{progress.trials}{limit} trials", best, doing)))
        # The meter's own estimate would count from the pace; the budget is the time itself.
        left = f"{duration(progress.seconds_left)} of the budget left"
        meter.update("tuning", budget - progress.seconds_left, 0, f"{note}, {left}")

    return update


def evaluating(meter: Meter) -> "Callable[[evaluation.EvaluationProgress], None]":
    """Shows each stage of an evaluation."""

    def update(progress: "evaluation.EvaluationProgress") -> None:
        note = f"{progress.done}/{progress.total}" if progress.total > 1 else ""
        meter.update(progress.stage, progress.done, progress.total, note)

    return update

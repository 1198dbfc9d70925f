"""Progress on a terminal and off it."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from steer.cli import progress as console
from steer.cli.progress import Meter, duration
from steer.runs.generation import RunProgress


def written(terminal: bool, updates: list[tuple]) -> str:
    """What a meter writes for calls of `update`."""
    file = io.StringIO()
    with Meter(Console(file=file, force_terminal=terminal, width=100)) as meter:
        for update in updates:
            meter.update(*update)
    return file.getvalue()


def test_off_a_terminal_a_stage_has_a_first_and_a_last_line() -> None:
    updates = [("loading",)] + [("making", done, 9, f"{done} of 9") for done in range(10)]
    assert written(False, updates).splitlines() == [
        "loading ...",
        "making: 0 of 9",
        "making: 9 of 9",
    ]


def test_off_a_terminal_there_are_no_control_codes() -> None:
    assert "\x1b" not in written(False, [("a [bold]stage", 1, 2, "[red]note")])


def test_on_a_terminal_every_stage_stays_in_view() -> None:
    text = written(True, [("loading",), ("making", 1, 2, "half [of] it")])
    assert "loading" in text
    assert "half [of] it" in text


def test_time_left_follows_the_pace_since_the_first_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resumed run starts in the middle: what was there before took no time now."""
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    text = written(False, [("making", 50, 100, "50"), ("making", 60, 100, "60")])
    assert "60" in text
    assert " left" in text.splitlines()[1]
    assert " left" not in text.splitlines()[0]


def test_the_first_few_of_many_do_not_say_what_time_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    text = written(False, [("making", done, 1000, f"{done} made") for done in (0, 3, 60)])
    assert text.splitlines()[:3] == [
        "making: 0 made",
        "making: 3 made",
        "making: 60 made, 8 min left",
    ]


def test_judging_shows_texts_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    file = io.StringIO()
    with Meter(Console(file=file)) as meter:
        show = console.evaluating(meter)
        for done in (0, 32):
            show(SimpleNamespace(stage="judging", done=done, total=96))
    first, second, *_ = file.getvalue().splitlines()
    assert first == "judging: 0/96"
    assert second.startswith("judging: 32/96, ") and second.endswith(" left")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (3540, "59 min"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("workers", "speed"), [(None, "tokens/s"), (2, "2 workers, 3 rounds in flight, 0.06 records/s")]
)
def test_generating_shows_accepted_rate_and_speed(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, speed: str
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    file = io.StringIO()
    with Meter(Console(file=file)) as meter:
        show = console.generating(meter)
        for accepted in (0, 30):
            show(
                SimpleNamespace(
                    accepted=accepted,
                    expected=accepted,
                    wanted=40,
                    tokens=100 * accepted,
                    finished=0,
                    acceptance_rate=0.75 if accepted else None,
                    rounds=3,
                    workers=workers,
                )
            )
    last = file.getvalue().splitlines()[-1]
    assert "30/40 accepted at 75%" in last
    assert speed in last
    assert last.endswith(" left")


def test_a_first_round_of_candidates_shows_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty records are chosen of two hundred attempts: fifty attempts are a quarter."""
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    file = io.StringIO()
    with Meter(Console(file=file, width=200)) as meter:
        show = console.generating(meter)
        for finished in (0, 50):
            show(RunProgress(0, 20, 0, 0, 10 * finished + 1, finished, 200, candidates=3))
    last = file.getvalue().splitlines()[-1]
    assert last.startswith("generating: 0/20 accepted, 50 of the first 200 attempts written")
    assert last.endswith("min left")


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (RunProgress(0, 20, 0, 0, 9, 50, 200, candidates=3), 5.0),
        (RunProgress(0, 1000, 0, 0, 9, 90, 768, candidates=3), 30.0),
        (RunProgress(0, 1000, 0, 0, 9, 90, 256), 90.0),
        (RunProgress(100, 1000, 400, 300, 9, 40, 768, candidates=3), 110.0),
        (RunProgress(19, 20, 40, 30, 9, 8, 8), 20.0),
        (RunProgress(0, 20, 0, 0, 0, 0, 0), 0.0),
    ],
)
def test_what_is_in_the_making_counts_as_far_as_it_brings_records(
    progress: RunProgress, expected: float
) -> None:
    assert progress.expected == pytest.approx(expected)


def test_off_a_terminal_a_stage_without_news_shows_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.01)
    file = io.StringIO()
    with Meter(Console(file=file)) as meter:
        meter.update("loading")
        while "so far" not in file.getvalue():
            meter._over.wait(0.01)
    first, second, *_ = file.getvalue().splitlines()
    assert first == "loading ..."
    assert second == "loading: 0 s so far"


def test_fitting_shows_losses_and_says_that_it_overfits() -> None:
    file = io.StringIO()
    with Meter(Console(file=file, width=200, force_terminal=True)) as meter:
        show, shown = console.fitting(meter), []
        monkey = meter.update
        meter.update = lambda *given: (shown.append(given), monkey(*given))
        for epoch, held_out in enumerate((3.0, 2.5, 2.75)):
            for stage, known in (("train", None), ("evaluate", held_out)):
                show(
                    SimpleNamespace(
                        stage=stage,
                        epoch=epoch,
                        epochs=3,
                        loss=2.0 if epoch else None,
                        held_out_loss=known,
                        tokens=1,
                        tokens_per_second=7.0,
                        done=epoch + 1,
                        total=4,
                    )
                )
        plan = {"texts": 90, "epochs": 1, "steps": 12, "total": 4321.0, "memory": 3 * 2**29}
        show(SimpleNamespace(stage="load", **plan))
        show(SimpleNamespace(stage="save", done=0, total=0))
    foretold = "to fit: 90 texts, 1 epoch, 12 steps, 4,321 tokens; about 1.5 GiB of memory"
    assert foretold in file.getvalue()
    del shown[-3]
    notes = [note for _, _, _, note in shown[:-1]]
    assert notes[2] == "epoch 1/3, loss 2.00, held-out 3.00, 7 tokens/s"
    assert notes[5].startswith(
        "epoch 2/3, loss 2.00, held-out 2.75 (0.25 above the lowest: it overfits)"
    )
    assert [given[0] for given in shown[-2:]] == ["fitting", "saving"]

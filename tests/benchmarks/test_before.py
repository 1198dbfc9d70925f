"""The comparison with an older version: what it makes of what happened, and when."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import before, report
from benchmarks.before import Before, Fit, Plan, Side
from benchmarks.pairs import Ratio
from benchmarks.suite import in_words, met, target
from benchmarks.table import add, how, read, write
from steer.errors import SteerError
from tests.tiny import TEXTS

ROOT = Path(__file__).parent.parent.parent
HERE = Side("now", Path(sys.executable), ROOT)
OLD = Fit(100.0, ((5.0, 4.0), (50.0, 3.0), (90.0, 3.1)), (1, 2))
NEW = Fit(40.0, ((4.0, 4.0), (20.0, 3.2), (38.0, 2.9)), (1, 2))
ONE = Ratio.of([1.0])


def test_a_loss_is_reached_at_the_first_test_that_shows_it() -> None:
    assert OLD.lowest == 3.0
    assert NEW.until(3.0) == 38.0
    assert NEW.until(3.2) == 20.0
    assert NEW.until(2.0) is None


def test_times_are_over_the_older_command_pair_by_pair() -> None:
    faster = dataclasses.replace(NEW, seconds=30.0, tests=((3.0, 4.0), (28.0, 3.0)))
    ratios, more = before.compared("texts", [(OLD, NEW), (OLD, faster)])
    assert ratios["fit_time_to_loss_over_before_texts"] == Ratio.of([0.38, 0.28])
    assert ratios["fit_time_over_before_texts"] == Ratio.of([0.4, 0.3])
    assert more["seconds"]["before"]["median"] == 100
    assert [fit["now"]["seconds"] for fit in more["fits"]] == [40, 30]


def test_a_loss_that_is_never_reached_has_no_time() -> None:
    worse = dataclasses.replace(NEW, tests=((4.0, 4.0), (20.0, 3.2)))
    ratios, more = before.compared("texts", [(OLD, worse)])
    assert list(ratios) == ["fit_time_over_before_texts"]
    assert more["note"] == (
        "lowest held-out loss 3.000 before and 3.200 now, so that of before was not reached"
    )


def test_only_losses_of_the_same_texts_are_compared() -> None:
    before.require_same_test("texts", OLD, NEW)
    with pytest.raises(SteerError, match="hold out other texts"):
        before.require_same_test("texts", OLD, dataclasses.replace(NEW, held_out=(1, 3)))
    with pytest.raises(SteerError, match="read the texts otherwise"):
        before.require_same_test("texts", OLD, dataclasses.replace(NEW, tests=((4.0, 4.1),)))


def test_this_version_is_watched_from_outside(tiny_model: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "texts.jsonl"
    before.write_corpus(TEXTS, corpus)
    settings = ("--base", tiny_model, "--epochs", 2, "--lr", 0.001)
    fit = before.fitted(HERE, corpus, "A text:", tmp_path / "expert", *settings)
    card = json.loads((tmp_path / "expert" / "expert.json").read_text())
    assert [loss for _, loss in fit.tests] == [loss["held_out"] for loss in card["losses"]]
    assert list(fit.held_out) == card["held_out"]
    times = [seconds for seconds, _ in fit.tests]
    assert times == sorted(times) and times[0] > 0 and times[-1] < fit.seconds
    took = before.first_token(HERE, tmp_path / "expert", corpus, tmp_path / "run")
    assert took > 0
    with pytest.raises(SteerError, match="the now version failed: error: the expert"):
        before.first_token(HERE, tmp_path / "none", corpus, tmp_path / "other")


def test_sides_take_turns_and_the_first_turn_is_not_counted(tmp_path: Path) -> None:
    old = dataclasses.replace(HERE, name="before")
    lines: list[str] = []
    compared = Before(old, HERE, tmp_path, Plan(repeats=2), lines.append)
    seconds = iter([9.0, 9.0, 2.0, 1.0, 4.0, 3.0])
    ratios, more = compared._starts("name", "what", lambda side, number: next(seconds))
    assert ratios == {"name": Ratio.of([0.5, 0.75])}
    assert [line.split(": ")[1] for line in lines] == ["before", "now"] * 3
    assert more["seconds"]["before"] == {"median": 3.0, "low": 2.0, "high": 4.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--old", "nowhere/steer"], "there is no nowhere/python"),
        (["--old", f"{sys.executable}", "--only", "end"], "--only is end; choose from help"),
        (
            ["--old", f"{sys.executable}", "--data", "mine"],
            "found the corpus 'mine'; give TASK",
        ),
        (["--old", f"{sys.executable}", "--texts", "2001"], "--texts is 2001; of more than 2000"),
    ],
)
def test_mistakes_show_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert before.main([*arguments, "--out", str(tmp_path / "cpu.json")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_what_others_added_stays_beside_the_main_results(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    said = how("python -m benchmarks.before", {"cpu": "a processor"}, {"repeats": 1})
    add(out, "before, help", {"help_over_before": ONE, "also": ONE}, said)
    write(out, {"steer_over_plain_64": ONE, "also": Ratio.of([2.0])}, {"machine": {}})
    found = read(out)
    assert found["help_over_before"]["median"] == 1 and found["also"]["median"] == 2
    assert found["added"]["before, help"]["ratios"] == ["help_over_before"]
    add(out, "before, start", {"steer_start_over_before": ONE}, said)
    add(out, "before, help", {"help_over_before": Ratio.of([3.0])}, said)
    found = read(out)
    assert list(found["added"]) == ["before, start", "before, help"]
    assert found["help_over_before"]["median"] == 3
    assert list(found)[:2] == ["steer_over_plain_64", "also"] and list(found)[-1] == "added"
    write(out, {"steer_over_plain_64": ONE}, {})
    assert "also" not in read(out) and len(read(out)["added"]) == 2
    add(out, "before, help", {}, said)
    assert "help_over_before" not in read(out)


def test_damaged_results_are_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    out.write_text("{")
    for command in (lambda: add(out, "a", {}, {}), lambda: write(out, {}, {})):
        with pytest.raises(SteerError, match="cannot read the results"):
            command()
    assert out.read_text() == "{"


def test_a_ratio_of_a_corpus_has_words_and_a_target() -> None:
    name = "fit_time_to_loss_over_before_hypotheses"
    assert in_words(name).endswith("over that version's fit: hypotheses")
    assert target(name) == ("<=", 0.5)
    assert met(name, Ratio.of([0.6])) is False
    assert in_words("unknown") == "`unknown`" and target("unknown") is None


def test_the_page_says_who_measured_what(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    where = {"cpu": "a processor", "threads": 2, "dtype": "bfloat16"}
    said = how("python -m benchmarks.before --only help", where, {})
    said["seconds"] = before.spreads({"before": [0.26], "now": [0.29], "not reached": []})
    add(out, "before, help", {"help_over_before": ONE}, said)
    page = " ".join(report._ratios(report.Results.all(tmp_path)).split())
    assert "| time of steer --help over the version before | | 1.00 (1.00 to 1.00) |" in page
    assert "`python -m benchmarks.before --only help`, a processor, 2 threads, bfloat16" in page
    assert "before 0.26 s, now 0.29 s." in page


def test_a_table_of_ratios_alone_can_be_shown() -> None:
    console = Console(record=True, width=120)
    before.show({"help_over_before": ONE}, [], console)
    assert "time of steer --help" in console.export_text()

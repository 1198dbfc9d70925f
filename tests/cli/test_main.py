"""The command line from end to end on a tiny model, its help and its exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from steer.cli.main import main
from steer.config import Guidance, RunConfig
from steer.data.corpus import load_corpus
from steer.engines.hf.engine import HFEngine
from steer.runs.store import Run
from steer.version import __version__
from tests import tiny

COMMANDS = (
    "make",
    "adopt",
    "push",
    "look",
    "fit",
    "generate",
    "evaluate",
    "export",
    "show",
    "compare",
    "sweep",
    "report",
    "methods",
    "tune",
    "cache",
    "correct",
)
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: steer {command} " in capsys.readouterr().out


def test_help_and_version_load_no_model_library() -> None:
    """From the source tree, not installed: seconds of imports would make --help feel broken."""
    script = (
        "import sys; from steer.cli.main import main; codes = [main([]), main(['--version'])];"
        "assert codes == [0, 0], codes;"
        "assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"steer {__version__}" in done.stdout
    assert all(command in done.stdout for command in COMMANDS)


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "steer", "show", "nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus with labels, as JSONL."""
    rows = zip(tiny.TEXTS, tiny.LABELS, strict=True)
    lines = (json.dumps({"text": text, "kind": label}) for text, label in rows)
    path = tmp_path_factory.mktemp("real") / "real.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, real: Path) -> Path:
    """An expert that ends its texts, by the command line."""
    out = tmp_path_factory.mktemp("expert") / "expert"
    speed = ("--epochs", "4", "--lr", "0.01", "--rank", "8", "--batch", "16")
    data = ("fit", str(real), "--prompt", tiny.PROMPT, "--base", str(tiny_model))
    assert main([*data, "--out", str(out), *speed]) == 0
    return out


def generate(expert: Path, real: Path, out: Path, *more: str) -> int:
    arguments = ["generate", str(expert), "--real", str(real), "--out", str(out)]
    how = ("--method", "steer", "--candidates", "1", "--min-chars", "0", "--round-size", "16")
    return main([*arguments, *how, *more])


@pytest.fixture(scope="module")
def run(expert: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 records."""
    out = tmp_path_factory.mktemp("runs") / "guided"
    assert generate(expert, real, out, "--n", "20", "--max-attempts", "400") == 0
    return out


@pytest.fixture(scope="module")
def readable(expert: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the control characters that the tiny model writes too."""
    out = tmp_path_factory.mktemp("runs") / "readable"
    pattern = r"[^\x00-\x1f\x7f-\x9f]+"
    more = ("--n", "5", "--max-attempts", "400", "--pattern", pattern)
    assert generate(expert, real, out, *more) == 0
    return out


def test_fit_shows_the_losses(
    tiny_model: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", str(real), "--prompt", "A {label} question:", "--label-column", "kind"]
    arguments += ["--base", str(tiny_model), "--out", str(tmp_path / "expert"), "--epochs", "1"]
    assert main([*arguments, "--rank", "2"]) == 0
    shown = capsys.readouterr()
    assert "held-out loss" in shown.out
    assert "fitted on 180 of 200 texts (20 held out)" in " ".join(shown.out.split())
    assert "fitting: " in shown.err


def test_generate_says_what_came_of_it(
    expert: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Few of the tiny expert's texts end by themselves, and rounding decides which.
    assert generate(expert, real, tmp_path / "run", "--n", "4", "--max-attempts", "400") == 0
    shown = capsys.readouterr()
    assert "4 of 4 records accepted" in shown.out
    assert "4/4 accepted" in shown.err


def test_the_defaults_are_those_of_the_study(
    tiny_expert: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunConfig] = []

    def launch(config: RunConfig, *_: object, **__: object) -> None:
        asked.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("steer.runs.launch.launch", launch)
    command = ["generate", str(tiny_expert), "--real", str(real), "--n", "5", "--out"]
    assert main([*command, str(tmp_path / "a")]) == 130
    assert main([*command, str(tmp_path / "b"), "--gamma", "0.4", "--candidates", "1"]) == 130
    usual, other = asked
    assert (usual.method, usual.sampling.temperature, usual.candidates) == ("temperature", 0.9, 3)
    assert usual.guidance == Guidance(gamma=0, eta=0, alpha=0)
    assert (other.method, other.guidance) == ("steer", Guidance(gamma=0.4))
    assert (other.sampling.temperature, other.candidates) == (0.9, 1)


def test_spent_attempts_exit_3_and_keep_what_was_accepted(
    expert: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight attempts for eight records, and half of the questions begin with another word."""
    out = tmp_path / "run"
    assert generate(expert, real, out, "--n", "8", "--max-attempts", "8", "--pattern", "Why.*") == 3
    kept = Run.open(out)
    assert len(kept.records) + len(kept.rejects) == 8
    assert f"{len(kept.records)} of 8 records accepted" in capsys.readouterr().out


def test_ctrl_c_exits_130_says_how_to_continue_and_continues(
    expert: Path,
    real: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    wanted = ("--n", "20", "--max-attempts", "400")
    whole = HFEngine.generate
    rounds = []

    def stopped(*arguments, **named):
        if rounds:
            raise KeyboardInterrupt
        rounds.append(1)
        return whole(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "generate", stopped)
        assert generate(expert, real, out, *wanted) == 130
    message = [line for line in capsys.readouterr().err.splitlines() if "stopped" in line]
    assert message == [f"stopped: the finished rounds are in {out}; the same command continues"]
    assert generate(expert, real, out, *wanted) == 0
    assert Run.open(out).records == Run.open(run).records


def test_labels(
    tiny_label_expert: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("--label-column", "kind", "--label", "why=3", "--label", "how=2")
    code = generate(tiny_label_expert, real, tmp_path / "run", *wanted)
    labels = {record.label for record in Run.open(tmp_path / "run").records}
    assert code in (0, 3)  # the fixture's expert is not fitted to end its texts
    assert labels <= {"why", "how"}
    assert main(["show", str(tmp_path / "run")]) == 0
    assert "accepted, why" in capsys.readouterr().out


def test_balance_asks_for_what_is_missing(
    tiny_label_expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(zip(tiny.TEXTS, tiny.LABELS, strict=True))
    few = rows[:50] + [row for row in rows if row[1] == "how"][:47]
    kept = [{"text": text, "kind": label} for text, label in few]
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    wanted = ("--label-column", "kind", "--balance", "--max-attempts", "9")
    assert generate(tiny_label_expert, path, tmp_path / "run", *wanted) in (0, 3)
    assert Run.open(tmp_path / "run").config.labels == {"how": 3}


def test_show_has_settings_counts_and_records(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(run), "--records", "3"]) == 0
    shown = capsys.readouterr().out
    assert "20 of 20 records, complete" in shown
    assert "gamma" in shown
    assert shown.count("  rec:") == 3


def test_evaluate_two_sets_side_by_side(
    run: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(tiny.TEXTS[:30]), "utf-8")
    table = tmp_path / "table.json"
    arguments = ["evaluate", str(run), str(lines), "--real", str(real), "--json", str(table)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(table.read_text("utf-8"))["rows"]}
    assert list(rows) == ["guided", "lines", "real"]
    assert "detector's AUROC" in shown and "AUROC, trees" not in shown
    assert "By fidelity alone" in shown and "not measured" in shown
    assert rows["lines"]["exact_copies"]["value"] > rows["guided"]["exact_copies"]["value"]
    assert main(arguments) == 2  # the table is there already
    assert main([*arguments[:-2], "--n", "10", "--full"]) == 0
    assert "AUROC, trees" in capsys.readouterr().out


def test_a_judge_of_the_model_that_wrote_the_texts_is_shown_apart(
    tiny_model: Path, run: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.save_tiny_model(tmp_path / "other", seed=1)
    judged = {}
    for judge in (tiny_model, other):
        table = tmp_path / f"{judge.name}.json"
        arguments = ["evaluate", str(run), "--real", str(real), "--json", str(table), "--n", "10"]
        assert main([*arguments, "--judge", str(judge)]) == 0
        judged[judge] = json.loads(table.read_text("utf-8"))
    assert judged[tiny_model]["judges"] == [None, str(tiny_model)]
    assert judged[other]["judges"] == [str(other)]
    capsys.readouterr()


def test_runs_of_a_model_that_is_gone_can_be_measured(
    expert: Path, run: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    state = json.loads((moved / "run.json").read_text("utf-8"))
    state["sources"]["base"] = str(tmp_path / "gone")
    (moved / "run.json").write_text(json.dumps(state), "utf-8")
    arguments = ["evaluate", str(moved), "--real", str(real), "--n", "10", "--judge", str(expert)]
    assert main(arguments) == 0
    assert "or may be" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["records.jsonl", "records.csv", "records.parquet", "dataset"])
def test_export_can_be_read_back(readable: Path, tmp_path: Path, name: str) -> None:
    assert main(["export", str(readable), str(tmp_path / name)]) == 0
    assert load_corpus(tmp_path / name, "text").texts == tuple(
        r.text for r in Run.open(readable).records
    )


def test_a_withdrawal_says_what_it_does_not_undo(
    readable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where no panel held the text, as in a run without panels: the expert read it."""
    panels = {member for record in Run.open(readable).records for member in record.panel}
    other = next(row for row in range(200) if f"real:{row}" not in panels)
    words = ["export", str(readable), str(tmp_path / "kept.jsonl"), "--without", f"real:{other}"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "left out: 0 records" in shown and "fit another without it" in shown


def test_correct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Candidates are the real texts and others; more of the others are left out."""
    real, made, out = (tmp_path / f"{name}.jsonl" for name in ("real", "made", "out"))
    strange = [f"{text} {text}" for text in tiny.TEXTS]
    real.write_text("".join(f"{json.dumps({'text': text})}\n" for text in tiny.TEXTS[:120]))
    made.write_text(
        "".join(f"{json.dumps({'text': text})}\n" for text in [*tiny.TEXTS[80:], *strange])
    )
    command = ["correct", str(made), "--real", str(real), "--n", "60", "--out", str(out)]
    assert main(command) == 0
    assert "60 of 320 candidates" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 60 and all(isinstance(row["score"], float) for row in rows)
    assert sum(row["text"] in strange for row in rows) < 20
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err

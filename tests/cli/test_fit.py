"""`steer fit` with a task, with a prompt, with texts from a file or from the hub."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest

from steer.cli.main import main
from steer.models.expert import Expert
from tests import tiny

FAST = ("--epochs", "1", "--rank", "2", "--batch", "32")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "expert"


@pytest.fixture
def real(tmp_path: Path) -> str:
    """Texts with the labels of the task `comments`."""
    labels = ("toxic" if label == "why" else "non-toxic" for label in tiny.LABELS)
    rows = [{"text": t, "label": name} for t, name in zip(tiny.TEXTS, labels, strict=True)]
    path = tmp_path / "real.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def fit(out: Path, base: Path, *more: str) -> int:
    return main(["fit", *more, "--out", str(out), "--base", str(base), *FAST])


def test_a_labelled_task_with_a_file(out: Path, tiny_model: Path, real: str) -> None:
    assert fit(out, tiny_model, real, "--task", "comments") == 0
    expert = Expert.load(out)
    assert expert.labels == expert.task.labels == ("toxic", "non-toxic")
    assert (expert.task_name, expert.max_completion_tokens) == ("comments", 75)
    assert (expert.rows, expert.data_source) == (200, real)


def test_what_became_of_the_texts_is_said(
    out: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = (*tiny.TEXTS[:13], *(f"{i} {'long ' * 500}" for i in range(6)))
    (tmp_path / "real.txt").write_text("\n".join(texts))
    assert fit(out, tiny_model, str(tmp_path / "real.txt"), "--prompt", tiny.PROMPT) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "fitted on 12 of 19 texts (1 held out, 6 dropped as too long)" in shown
    assert "6 of 19 texts were left out" in shown


def test_the_answer_letter_is_no_label(out: Path, tiny_model: Path, real: str) -> None:
    assert fit(out, tiny_model, real, "--task", "commonsense") == 0
    expert = Expert.load(out)
    assert (expert.task.form, expert.labels) == ("question", ())


def test_a_task_of_ones_own_with_its_dataset(
    out: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands for the hub: the library loads it by the same call."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    rows = [
        {"body": text, "kind": label} for text, label in zip(tiny.TEXTS, tiny.LABELS, strict=True)
    ]
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "set" / "train.parquet"))
    task = tmp_path / "sky.yaml"
    task.write_text(
        f'prompt: "A {{label}} question:"\nlabels: [how, why]\nmax_new_tokens: 30\n'
        f"hub: {{dataset: {tmp_path / 'set'}, text: body, label: kind, most: 50}}\n"
    )
    assert fit(out, tiny_model, "--task", str(task)) == 0
    expert = Expert.load(out)
    assert (expert.rows, expert.labels, expert.task_name) == (100, ("how", "why"), "sky")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "found neither of --task and --prompt; give one of them"),
        (("--task", "comments", "--prompt", "A:"), "found both of --task and --prompt"),
        (("--prompt", "A:"), "there are no real texts: no task is named; give DATA"),
        (("--task", "hypotheses"), "'hypotheses' has no dataset on the hub; give DATA"),
        (("--task", "poems"), "unknown task 'poems': choose one of hypotheses, comments"),
        (("REAL", "--task", "none.yaml"), "none.yaml: cannot read it"),
        (("REAL", "--prompt", ""), "the prompt is empty"),
        (("REAL", "--task", ""), "unknown task ''"),
        (
            ("REAL", "--task", "commonsense", "--label-column", "label"),
            "the task's labels are none but those of",
        ),
        (("REAL", "--task", "comments", "--label-column", "kind"), "no label column 'kind'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...],
    found: str,
    out: Path,
    tiny_model: Path,
    real: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [real if argument == "REAL" else argument for argument in arguments]
    assert fit(out, tiny_model, *given) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert found in errors[0]
    assert not out.exists()


def test_a_killed_fit_goes_on_and_a_terminated_one_says_so(
    out: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """SIGTERM, SIGKILL, and then to the end, to what a fit that nobody stopped makes."""
    (tmp_path / "real.txt").write_text("\n".join(tiny.TEXTS))

    def command(place: Path) -> list[str]:
        words = ["fit", str(tmp_path / "real.txt"), "--prompt", tiny.PROMPT, "--out", str(place)]
        return [*words, "--base", str(tiny_model), "--epochs", "2", "--batch", "32"]

    def stopped(sent: signal.Signals) -> subprocess.Popen:
        state = tmp_path / "expert.unfinished" / "state.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else None
        words = [sys.executable, "-m", "steer", *command(out)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        while process.poll() is None:  # until there is another state
            if state.exists() and state.stat().st_mtime_ns != before:
                process.send_signal(sent)
                break
            time.sleep(0.01)
        return process

    process = stopped(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143
    assert "expert.unfinished; the same command goes on with it" in errors.splitlines()[-1]
    assert stopped(signal.SIGKILL).wait() == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.glob("*exp*")) == ["expert.unfinished"]
    assert not list(tmp_path.glob(".steer*"))
    for place in (out, tmp_path / "never-stopped"):
        assert main(command(place)) == 0
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "never-stopped" / path.name).read_bytes()

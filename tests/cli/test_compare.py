"""compare, sweep, tune and report from end to end on a tiny model."""

import json
import re
import shlex
from pathlib import Path

import pytest

from steer.cli.main import main
from steer.cli.parsing import values
from steer.data.corpus import load_corpus
from steer.errors import SteerError
from steer.models.expert import FitSettings
from steer.models.fitting import fit
from steer.runs.store import Run
from tests import tiny


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "real.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in tiny.TEXTS), "utf-8")
    return path


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that writes no control characters, so that enough records of few are accepted."""
    return tiny.save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", readable=True)


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, real: Path) -> Path:
    """One that ends its texts."""
    out = tmp_path_factory.mktemp("expert") / "expert"
    settings = FitSettings(epochs=8, lr=0.01, rank=8, batch=16)
    fit(load_corpus(str(real)), tiny.PROMPT, out, base=str(tiny_model), settings=settings)
    return out


def run(command: str, expert: Path, real: Path, out: Path, *more: str) -> int:
    return main([command, str(expert), "--real", str(real), "--out", str(out), *more])


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another family than the expert's."""
    return tiny.save_tiny_model(tmp_path_factory.mktemp("judge") / "judge", seed=1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, expert: Path, real: Path, judge: Path) -> Path:
    out = tmp_path_factory.mktemp("studies") / "study"
    methods = ("--methods", "plain,steer:gamma=0.1,contrastive-search")
    assert run("compare", expert, real, out, *methods, "--n", "20", "--judge", str(judge)) == 0
    return out


def test_compare(
    study: Path, expert: Path, real: Path, judge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((study / "comparison.json").read_text())
    assert [entry["name"] for entry in found["methods"]] == [
        "plain",
        "steer:gamma=0.1",
        "contrastive-search",
    ]
    measured = json.loads((study / "evaluation.json").read_text())
    rows = {row["name"]: row for row in measured["rows"]}
    left = [entry["name"] for entry in found["methods"] if entry["accepted"] >= 15]
    assert list(rows) == [*left, "real"]
    assert all(rows[name]["summary"]["value"] >= 0 for name in rows)
    assert measured["judges"] == [str(judge)]
    assert Run.open(study / "runs" / "steer_gamma=0.1").config.guidance.gamma == 0.1

    assert run("compare", expert, real, study, "--methods", "plain", "--n", "20") == 0
    shown = capsys.readouterr().out
    assert "20 of 20" in shown
    assert "By fidelity alone" in shown
    assert "steer report" in shown


def test_compare_without_enough_records_says_so(
    expert: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Greedy writes the same record again and again, and records must differ."""
    code = run("compare", expert, real, tmp_path / "out", "--methods", "greedy:opening=0")
    assert code == 2
    assert "has 75% of its records" in capsys.readouterr().err


def test_report(
    study: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    command = ["report", str(study), "--real", str(real), "--out", str(page)]
    assert main(command) == 0
    assert f"written: {page}" in capsys.readouterr().out
    texts = " | ".join(each.text for each in Run.open(study / "runs" / "plain").records)
    found = re.findall(r"[A-Za-z]+ [A-Za-z ]+", texts)  # nothing to escape
    record = max((each.strip() for each in found), key=len)
    assert record in page.read_text("utf-8")
    assert main(command) == 2  # it is there already

    masked = tmp_path / "masked.html"
    assert main([*command[:-1], str(masked), "--mask"]) == 0
    assert record not in masked.read_text("utf-8")


def test_sweep_and_its_report(expert: Path, real: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid"
    axes = ("--gamma", "0,0.1", "--eta", "0:0.1:0.1")
    assert run("sweep", expert, real, out, *axes, "--n", "20") == 0
    found = json.loads((out / "comparison.json").read_text())
    cells = [entry["cell"] for entry in found["methods"]]
    assert cells == [{"gamma": g, "eta": e} for e in (0, 0.1) for g in (0, 0.1)]
    page = tmp_path / "grid.html"
    assert main(["report", str(out), "--real", str(real), "--out", str(page)]) == 0
    assert "heat" in page.read_text("utf-8").casefold()


def test_tune(expert: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--trials", "2", "--n", "20", "--budget", "1h")
    assert run("tune", expert, real, tmp_path / "tuned", *more) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Recommended: trial" in shown
    assert f"steer generate {expert} --real" in shown.replace("\n", " ")
    assert len(json.loads((tmp_path / "tuned" / "tuning.json").read_text())["trials"]) == 2


@pytest.mark.parametrize("what", ["expert", "tiny_model"])
def test_tune_asks_for_a_judge_of_another_family(
    what: str,
    expert: Path,
    real: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = str(request.getfixturevalue(what))
    assert run("tune", expert, real, tmp_path / "tuned", "--judge", own) == 2
    assert f"--judge {own} is of the base model" in capsys.readouterr().err


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real texts whose column must be named, in a file whose name must be quoted."""
    path = tmp_path_factory.mktemp("real") / "real texts.jsonl"
    rows = ({"body": text, "other": "x"} for text in tiny.TEXTS)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def printed(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words of the `steer` command that was printed."""
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith(f"steer {name} ")]
    return shlex.split(line)[1:]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("compare", ("--methods", "steer:gamma=0.1,nucleus")),
        ("sweep", ("--gamma", "0,0.1", "--eta", "0")),
    ],
)
def test_the_printed_report_command_runs_as_it_is(
    command: str,
    more: tuple[str, ...],
    expert: Path,
    columns: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "my study"
    assert run(command, expert, columns, out, *more, "--n", "20", "--text-column", "body") == 0
    words = printed("report", capsys)
    assert main(words) == 0
    assert Path(words[words.index("--out") + 1]).read_text("utf-8").startswith("<!doctype html>")


def test_the_printed_generate_command_makes_the_records_of_the_trial(
    expert: Path, columns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    settings = ("--text-column", "body", "--max-new-tokens", "60", "--seed", "5", "--rows", "7")
    more = ("--towards", str(columns), "--dtype", "float32")
    limits = ("--trials", "2", "--n", "20", "--budget", "1h")
    assert run("tune", expert, columns, out, *limits, *settings, *more) == 0
    words = printed("generate", capsys)
    state = json.loads((out / "tuning.json").read_text())
    assert shlex.split(state["command"])[1:] == words
    for option, value in zip(*[iter((*settings, *more))] * 2, strict=True):
        assert words[words.index(option) + 1] == value
    words[words.index("--n") + 1], words[words.index("--out") + 1] = "20", str(tmp_path / "run")
    assert main(words) in (0, 3)  # 3: the attempts were used up
    trial = Run.open(out / state["trials"][state["recommended"]]["run"])
    assert len(trial.records) >= 10
    # The other limit of attempts makes other batches, so the last digits of the scores differ.
    again = Run.open(tmp_path / "run").records[: len(trial.records)]
    assert [(r.id, r.text, r.panel) for r in again] == [
        (r.id, r.text, r.panel) for r in trial.records
    ]


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "contrastive-search" in shown
    assert "penalty=0.35" in shown


def test_values_of_an_axis() -> None:
    assert values("--gamma", "0:1:0.2") == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert values("--gamma", "0.1:0.35:0.1") == [0.1, 0.2, 0.3]
    assert values("--gamma", "0, 0.5,2") == [0, 0.5, 2]
    for wrong in ("", "0:1", "a", "1:0:0.1", "0:1:0", "0:1:-1", "0:1000:0.1", "0:x:1"):
        with pytest.raises(SteerError, match="write FROM:TO:STEP"):
            values("--gamma", wrong)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("compare $e --real $r --out $o --methods nukleus", "there is no method 'nukleus'"),
        ("compare $e --real $r --out $o --methods dexperts", "needs labels"),
        ("compare $e --real $r --out $o --test nowhere.jsonl", "nowhere.jsonl"),
        ("sweep $e --real $r --out $o --gamma 1:0:1", "write FROM:TO:STEP"),
        ("sweep $e --real $r --out $o --gamma=-1 --eta 0", "gamma is -1"),
        ("compare $e --real $r --out $o --methods plain --max-new-tokens 0", "max_new_tokens is 0"),
        ("tune $e --real $r --out $o --budget soon", "write a time"),
        ("tune $e --real $r --out $o --method beam", "beam"),
        ("compare $e --real $r --out $o --n 9", "--n is 9"),
        ("sweep $e --real $r --out $o --n 9", "--n is 9"),
        ("compare $e --real $r --out $o --test $few", "has 19 texts"),
        ("sweep $e --real $r --out $o --test $few", "has 19 texts"),
        ("tune $e --real $r --out $o --test $few", "has 19 texts"),
        ("report nowhere --real $r --out $o", "no folder nowhere"),
        ("report $e --real $r --out $o", "is no run"),
    ],
)
def test_mistakes_are_one_line(
    command: str,
    says: str,
    expert: Path,
    real: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join(tiny.TEXTS[:19]), "utf-8")
    places = {"$e": str(expert), "$r": str(real), "$o": str(tmp_path / "out"), "$few": str(few)}
    assert main([places.get(part, part) for part in command.split()]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error
    assert not (tmp_path / "out").exists()  # nothing was generated

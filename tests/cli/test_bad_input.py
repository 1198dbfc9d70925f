"""Every mistake gets one line and exit code 2: no traceback, nothing made or overwritten.

The cases run through the real command line on tiny models. `$d` is a folder with the files of
`FILES`, an expert, a labelled expert, a finished run and damaged copies of them.
"""

import fcntl
import shlex
import shutil
from pathlib import Path
from string import Template

import pytest

from steer.cli.main import main
from tests import tiny

GOOD = "".join(f'{{"text": "{text}"}}\n' for text in tiny.TEXTS[:40])
LABELLED = "".join(
    f'{{"text": "{text}", "kind": "{label}"}}\n'
    for text, label in zip(tiny.TEXTS, tiny.LABELS, strict=True)
)
FILES: dict[str, bytes] = {
    "good.jsonl": GOOD.encode(),
    "labelled.jsonl": LABELLED.encode(),
    "empty.jsonl": b"",
    "blank_lines.txt": b"\n\n",
    "only_header.csv": b"text,kind\n",
    "columns.jsonl": b'{"title": "a", "body": "b"}\n',
    "json.jsonl": b'{"text": "one"}\n{"text": "two"}\n{"text": \n',
    "array.jsonl": b'{"text": "one"}\n["two"]\n',
    "latin1.txt": "one\ncaf\xe9\n".encode("latin-1"),
    "number.jsonl": b'{"text": "one"}\n{"text": 2}\n',
    "missing.jsonl": b'{"text": "one"}\n{"other": "two"}\n',
    "blank.jsonl": b'{"text": "one"}\n{"text": "  "}\n',
    "surrogate.jsonl": b'{"text": "half \\ud83d"}\n',
    "ragged.csv": b"text,kind\none,a\ntwo\n",
    "twice.csv": b"text,text\none,a\n",
    "quote.csv": b'text,kind\n"one,a\n',
    "bad.parquet": b"PAR1 not really",
    "texts.docx": b"PK",
    "blank_label.jsonl": b'{"text": "one", "kind": "a"}\n{"text": "two", "kind": ""}\n',
    "one.txt": b"Only one text here.\n",
    "five.txt": b"".join(b"Text number %d here.\n" % i for i in range(5)),
    "file": b"mine",
    "folder/precious.txt": b"mine",
    "mixed/a.csv": b"text\none\n",
    "mixed/b.txt": b"two\n",
    "pages/readme.md": b"# mine",
    "not_model/readme.txt": b"no model",
    "vision/config.json": b'{"model_type": "vit", "architectures": ["ViTForImageClassification"]}',
    "strange/config.json": b'{"model_type": "no such architecture"}',
    "broken_model/config.json": b"{",
}

FIT = "fit $d/good.jsonl --prompt Question: --base $model --out $d/new"
GENERATE = "generate $d/expert --real $d/good.jsonl --n 2 --out $d/new"
EVALUATE = "evaluate $d/good.jsonl --real $d/labelled.jsonl"


def fit(data: str, more: str = "") -> str:
    return f"fit $d/{data} --prompt Question: --base $model --out $d/new {more}"


# What is wrong, the command, and what the message has to say.
CASES = [
    # Data
    ("data: no such file", fit("none.jsonl"), "none.jsonl"),
    ("data: empty file", fit("empty.jsonl"), "empty"),
    ("data: only blank lines", fit("blank_lines.txt"), "empty"),
    ("data: only a header", fit("only_header.csv"), "empty"),
    ("data: a folder of several kinds", fit("mixed"), "files of several kinds: csv, txt"),
    ("data: a folder with no file of texts", fit("pages"), "folder without a file to read"),
    ("data: a run", fit("run"), "steer export"),
    ("data: an expert", fit("expert"), "an expert"),
    ("data: unknown extension", fit("texts.docx"), ".docx"),
    ("data: no such dataset", FIT.replace("$d/good.jsonl", "no_such_dataset"), "no_such_dataset"),
    ("data: no such column", fit("columns.jsonl", "--text-column text"), "title, body"),
    ("data: which column", fit("columns.jsonl"), "title, body"),
    ("data: invalid JSON", fit("json.jsonl"), "line 3"),
    ("data: no JSON object", fit("array.jsonl"), "line 2"),
    ("data: invalid UTF-8", fit("latin1.txt"), "line 2"),
    ("data: a number", fit("number.jsonl"), "line 2"),
    ("data: a value missing", fit("missing.jsonl"), "line 2"),
    ("data: a blank text", fit("blank.jsonl"), "line 2"),
    ("data: half a character", fit("surrogate.jsonl"), "line 1"),
    ("data: ragged CSV", fit("ragged.csv"), "row 2"),
    ("data: a column twice", fit("twice.csv"), "twice"),
    ("data: unclosed quote", fit("quote.csv"), "CSV"),
    ("data: no Parquet", fit("bad.parquet"), "Parquet"),
    ("data: no label column", fit("good.jsonl", "--label-column kind"), "kind"),
    ("data: a blank label", fit("blank_label.jsonl", "--label-column kind"), "line 2"),
    # look
    ("look: no such file", "look $d/none.jsonl", "none.jsonl"),
    ("look: no such column", "look $d/columns.jsonl --text-column text", "title, body"),
    ("look: no such model", "look $d/good.jsonl --base nobody/nothing", "nobody/nothing"),
    # fit
    ("fit: labels, no placeholder", fit("labelled.jsonl", "--label-column kind"), "{label}"),
    ("fit: placeholder, no labels", FIT.replace("Question:", "'A {label}:'"), "{label}"),
    ("fit: empty prompt", FIT.replace("Question:", "' '"), "prompt"),
    ("fit: too few texts", fit("one.txt"), "1"),
    ("fit: nothing fits the context", f"{FIT} --max-tokens 2", "2"),
    ("fit: no prompt", "fit $d/good.jsonl --out $d/new", "--prompt"),
    ("fit: no out", "fit $d/good.jsonl --prompt Question:", "--out"),
    ("fit: out is a folder", FIT.replace("$d/new", "$d/folder"), "exists"),
    ("fit: out is a file", FIT.replace("$d/new", "$d/file"), "exists"),
    ("fit: out inside a file", FIT.replace("$d/new", "$d/file/new"), "file"),
    ("fit: epochs 0", f"{FIT} --epochs 0", "epochs is 0"),
    ("fit: epochs not a number", f"{FIT} --epochs many", "many"),
    ("fit: lr NaN", f"{FIT} --lr nan", "lr is nan"),
    ("fit: lr 0", f"{FIT} --lr 0", "lr is 0"),
    ("fit: rank 0", f"{FIT} --rank 0", "rank is 0"),
    ("fit: batch 0", f"{FIT} --batch 0", "batch is 0"),
    ("fit: held out too much", f"{FIT} --held-out 1.5", "held_out is 1.5"),
    ("fit: negative seed", f"{FIT} --seed -1", "seed is -1"),
    ("fit: unknown option", f"{FIT} --epoch 3", "--epoch"),
    # Models
    ("model: not on the hub", FIT.replace("$model", "nobody/no-such-model"), "no-such-model"),
    ("model: no such folder", FIT.replace("$model", "$d/none"), "none"),
    ("model: a file", FIT.replace("$model", "$d/file"), "file"),
    ("model: nothing in it", FIT.replace("$model", "$d/not_model"), "config.json"),
    ("model: an expert", FIT.replace("$model", "$d/expert"), "expert"),
    ("model: no language model", FIT.replace("$model", "$d/vision"), "vision"),
    ("model: unknown architecture", FIT.replace("$model", "$d/strange"), "strange"),
    ("model: broken config", FIT.replace("$model", "$d/broken_model"), "broken_model"),
    ("model: no weights", FIT.replace("$model", "$d/no_weights"), "no_weights"),
    # Experts
    ("expert: none there", GENERATE.replace("$d/expert", "$d/none"), "none"),
    ("expert: a file", GENERATE.replace("$d/expert", "$d/file"), "file"),
    ("expert: another folder", GENERATE.replace("$d/expert", "$d/folder"), "expert.json"),
    ("expert: keys missing", GENERATE.replace("$d/expert", "$d/not_expert"), "damaged"),
    ("expert: broken", GENERATE.replace("$d/expert", "$d/broken_expert"), "damaged"),
    ("expert: no adapter", GENERATE.replace("$d/expert", "$d/no_adapter"), "adapter"),
    ("expert: damaged adapter", GENERATE.replace("$d/expert", "$d/bad_adapter"), "adapter"),
    ("expert: broken config", GENERATE.replace("$d/expert", "$d/bad_config"), "bad_config"),
    ("expert: of another base", f"{GENERATE} --base $other", "base"),
    ("expert: its base is gone", GENERATE.replace("$d/expert", "$d/orphan"), "gone"),
    # generate
    ("generate: no such real data", GENERATE.replace("good.jsonl", "none.jsonl"), "none.jsonl"),
    ("generate: gamma < 0", f"{GENERATE} --gamma -0.1", "gamma is -0.1"),
    ("generate: gamma NaN", f"{GENERATE} --gamma nan", "gamma is nan"),
    ("generate: eta infinite", f"{GENERATE} --eta inf", "eta is inf"),
    ("generate: eta a word", f"{GENERATE} --eta much", "much"),
    ("generate: alpha 1", f"{GENERATE} --alpha 1", "alpha is 1"),
    ("generate: alpha NaN", f"{GENERATE} --alpha nan", "alpha is nan"),
    ("generate: weights", f"{GENERATE} --weights heavy", "heavy"),
    ("generate: n 0", GENERATE.replace("--n 2", "--n 0"), "n is 0"),
    ("generate: n not whole", GENERATE.replace("--n 2", "--n 2.5"), "2.5"),
    ("generate: no n", GENERATE.replace("--n 2", ""), "neither"),
    ("generate: n and labels", f"{GENERATE} --label why=2", "both"),
    ("generate: label form", GENERATE.replace("--n 2", "--label why"), "LABEL=NUMBER"),
    ("generate: label twice", GENERATE.replace("--n 2", "--label a=1 --label a=2"), "twice"),
    ("generate: label 0", GENERATE.replace("--n 2", "--label why=0"), "why"),
    ("generate: label of none", GENERATE.replace("--n 2", "--label why=2"), "why"),
    (
        "generate: unknown label",
        "generate $d/labels --real $d/labelled.jsonl --label-column kind "
        "--label when=2 --out $d/new",
        "when",
    ),
    ("generate: labels needed", GENERATE.replace("$d/expert", "$d/labels"), "label"),
    ("generate: temperature", f"{GENERATE} --temperature -1", "temperature is -1"),
    ("generate: top-k", f"{GENERATE} --top-k -1", "top_k is -1"),
    ("generate: top-p", f"{GENERATE} --top-p 0", "top_p is 0"),
    ("generate: min-p", f"{GENERATE} --min-p nan", "min_p is nan"),
    ("generate: no new tokens", f"{GENERATE} --max-new-tokens 0", "max_new_tokens is 0"),
    ("generate: record too long", f"{GENERATE} --max-new-tokens 9999", "512"),
    ("generate: panel too long", f"{GENERATE} --panel-size 40", "512"),
    (
        "generate: too few for a panel",
        f"{GENERATE} --eta 0.2".replace("good.jsonl", "five.txt"),
        "5",
    ),
    ("generate: panel size 0", f"{GENERATE} --panel-size 0", "panel_size is 0"),
    ("generate: panel form", f"{GENERATE} --panel-form loose", "loose"),
    ("generate: round size 0", f"{GENERATE} --round-size 0", "round_size is 0"),
    ("generate: pattern", f"{GENERATE} --pattern '(['", "(["),
    ("generate: balance and n", f"{GENERATE} --balance", "--balance and --n"),
    (
        "generate: balance without labels",
        GENERATE.replace("--n 2", "--balance"),
        "fitted without any",
    ),
    (
        "generate: balance of what is balanced",
        "generate $d/labels --real $d/labelled.jsonl --label-column kind --balance --out $d/new",
        "nothing to fill up",
    ),
    ("generate: no such test set", f"{GENERATE} --forbid $d/none.jsonl", "none.jsonl"),
    ("generate: budget", f"{GENERATE} --budget soon", "--budget is 'soon'"),
    ("generate: no tokens", f"{GENERATE} --max-tokens 0", "--max-tokens"),
    ("generate: near 0", f"{GENERATE} --near 0", "near is 0"),
    ("generate: near 2", f"{GENERATE} --near 2", "near is 2"),
    ("generate: too few attempts", f"{GENERATE} --max-attempts 1", "max_attempts is 1"),
    ("generate: rows 0", f"{GENERATE} --rows 0", "rows is 0"),
    ("generate: dtype", f"{GENERATE} --dtype int4", "int4"),
    ("generate: device", f"{GENERATE} --device toaster", "toaster"),
    ("generate: seed", f"{GENERATE} --seed -1", "seed is -1"),
    ("generate: out is a file", GENERATE.replace("$d/new", "$d/file"), "file"),
    ("generate: out is no run", GENERATE.replace("$d/new", "$d/folder"), "folder"),
    (
        "generate: another run's folder",
        f"{GENERATE} --eta 0.2".replace("$d/new", "$d/run"),
        "eta is 0.0 there and 0.2 now",
    ),
    (
        "generate: fewer attempts than before",
        GENERATE.replace("$d/new", "$d/run --max-attempts 9"),
        "max_attempts is 200 there and 9 now",
    ),
    ("generate: damaged run", GENERATE.replace("$d/new", "$d/damaged"), "damaged"),
    # evaluate
    ("evaluate: no such set", EVALUATE.replace("good.jsonl", "none.jsonl"), "none.jsonl"),
    ("evaluate: a folder of others", EVALUATE.replace("good.jsonl", "pages"), "to read"),
    ("evaluate: no such real data", EVALUATE.replace("labelled", "none"), "none.jsonl"),
    ("evaluate: no such training data", f"{EVALUATE} --train $d/none.jsonl", "none.jsonl"),
    ("evaluate: too few texts", EVALUATE.replace("good.jsonl", "five.txt"), "5"),
    ("evaluate: too few real texts", EVALUATE.replace("labelled.jsonl", "five.txt"), "5"),
    ("evaluate: n too small", f"{EVALUATE} --n 1", "n is 1"),
    ("evaluate: a set twice", f"{EVALUATE} $d/good.jsonl", "twice"),
    ("evaluate: JSON exists", f"{EVALUATE} --json $d/file", "exists"),
    ("evaluate: no folder for JSON", f"{EVALUATE} --json $d/none/t.json", "none"),
    ("evaluate: unknown embedder", f"{EVALUATE} --embedder nobody/nothing", "nothing"),
    ("evaluate: damaged run", EVALUATE.replace("good.jsonl", "damaged"), "damaged"),
    # export and show
    ("export: no run", "export $d/folder $d/new.csv", "run"),
    ("export: unknown extension", "export $d/run $d/new.xlsx", ".xlsx"),
    ("export: file exists", "export $d/run $d/good.jsonl", "exists"),
    ("export: folder exists", "export $d/run $d/folder", "exists"),
    ("export: inside a file", "export $d/run $d/file/new.csv", "file"),
    ("export: damaged run", "export $d/damaged $d/new.csv", "damaged"),
    ("export: columns", "export $d/run $d/new.csv --columns text,colour", "colour"),
    ("export: split", "export $d/run $d/new.csv --split 80:20", "80:20"),
    ("export: an empty split", "export $d/run $d/new.csv --split 0:0:0", "80:10:10"),
    ("export: without what", "export $d/run $d/new.csv --without 17", "real:17"),
    ("show: lineage of what", "show $d/run --lineage 17", "real:17"),
    ("show: lineage of no record", "show $d/run --lineage rec:9999", "rec:9999"),
    ("make: no such file", "make $d/none.jsonl --out $d/new", "none.jsonl"),
    ("make: task and prompt", "make $d/good.jsonl --out $d/new --task x --prompt y", "--task"),
    ("make: another folder", "make $d/good.jsonl --out $d/folder --prompt Q:", "steer make"),
    ("make: no records", "make $d/good.jsonl --out $d/new --n 0", "--n"),
    ("push: nothing there", "push $d/none org/name", "no run"),
    ("push: no name", "push $d/run org/na/me", "no name for a repository"),
    ("push: no table", "push $d/run org/name --table $d/none.json", "steer evaluate --json"),
    ("push: another table", "push $d/run org/name --table $d/good.jsonl", "steer evaluate --json"),
    ("push: offline", "push $d/run org/name", "HF_HUB_OFFLINE"),
    ("adopt: no adapter", "adopt $d/folder --prompt Q: --out $d/new", "adapter_config.json"),
    ("adopt: no weights", "adopt $d/no_adapter --prompt Q: --out $d/new", "no adapter"),
    ("adopt: out exists", "adopt $d/expert --prompt Q: --out $d/folder", "exists"),
    ("adopt: no prompt", "adopt $d/expert --out $d/new", "--prompt"),
    ("adopt: base is gone", "adopt $d/orphan --prompt Q: --out $d/new", "gone"),
    ("show: no such run", "show $d/none", "none"),
    ("show: no run", "show $d/folder", "run.json"),
    ("show: damaged run", "show $d/damaged", "damaged"),
    ("show: negative count", "show $d/run --records -1", "-1"),
    ("no such command", "publish $d/run", "publish"),
]


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    tiny_expert: Path,
    tiny_label_expert: Path,
) -> dict[str, str]:
    """The folder `$d` and two models."""
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    shutil.copytree(tiny_expert, folder / "expert")
    shutil.copytree(tiny_label_expert, folder / "labels")
    damage_models(folder, tiny_model, tiny_expert)
    make_runs(folder)
    other = tiny.save_tiny_model(tmp_path_factory.mktemp("model") / "other", seed=1)
    return {"d": str(folder), "model": str(tiny_model), "other": str(other)}


def damage_models(folder: Path, model: Path, expert: Path) -> None:
    shutil.copytree(model, folder / "no_weights", ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(expert, folder / "no_adapter", ignore=shutil.ignore_patterns("adapter*"))
    for name, card in {"not_expert": "{}", "broken_expert": "{"}.items():
        shutil.copytree(expert, folder / name)
        (folder / name / "expert.json").write_text(card)
    shutil.copytree(expert, folder / "bad_adapter")
    (folder / "bad_adapter" / "adapter_model.safetensors").write_bytes(b"not weights")
    shutil.copytree(expert, folder / "bad_config")
    (folder / "bad_config" / "adapter_config.json").write_text("{")
    shutil.copytree(expert, folder / "orphan")
    for name in ("expert.json", "adapter_config.json"):
        path = folder / "orphan" / name
        path.write_text(path.read_text("utf-8").replace(str(model), f"{model}-gone"), "utf-8")


def make_runs(folder: Path) -> None:
    arguments = f"generate {folder}/expert --real {folder}/good.jsonl --n 1 --out {folder}/run"
    more = " --min-chars 0 --eta 0 --max-attempts 200"
    assert main(shlex.split(arguments + more)) in (0, 3)
    shutil.copytree(folder / "run", folder / "damaged")
    (folder / "damaged" / "rounds" / "000000.jsonl").write_bytes(b"{}\n")


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder, to see that nothing is made or changed."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("command", "says"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_one_line_and_exit_code_2(
    command: str, says: str, places: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(places["d"])
    before = contents(folder)
    code = main(shlex.split(Template(command).substitute(places)))
    errors = [line for line in capfd.readouterr().err.splitlines() if line]
    assert code == 2
    assert errors[-1].startswith("error: ")
    assert says in errors[-1]
    # A busy machine takes long enough for "loading: 9 s so far".
    assert [line for line in errors[:-1] if not line.endswith((" ...", " so far"))] == []
    after = contents(folder)
    shutil.rmtree(folder / "new", ignore_errors=True)  # one failure is to be one failure
    assert after == before


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (f"{FIT} --epochs 0", "(--epochs)"),
        (f"{FIT} --held-out 1.5", "(--held-out)"),
        (GENERATE.replace("--n 2", "--n 0"), "(--n)"),
        (GENERATE.replace("--n 2", ""), "--label LABEL=N"),
        (GENERATE.replace("$d/expert", "$d/labels"), "--label-column"),
        (f"{GENERATE} --max-attempts 1", "(--max-attempts)"),
        (f"{GENERATE} --eta 0.2".replace("good.jsonl", "five.txt"), "--panel-size"),
        (f"{EVALUATE} --n 1", "(--n)"),
    ],
)
def test_the_option_is_named(
    command: str, option: str, places: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(Template(command).substitute(places))) == 2
    assert option in capfd.readouterr().err.splitlines()[-1]


def test_the_good_commands_are_good(places: dict[str, str], tmp_path: Path) -> None:
    """Otherwise the cases above could fail for another reason than theirs."""
    for command in (FIT + " --epochs 1 --rank 2", GENERATE + " --max-attempts 8"):
        made = command.replace("$d/new", str(tmp_path / command.split()[0]))
        assert main(shlex.split(Template(made).substitute(places))) in (0, 3)


def test_two_processes_on_one_run(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with (Path(places["d"]) / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = Template(GENERATE.replace("$d/new", "$d/run")).substitute(places)
        assert main(shlex.split(command)) == 2
    assert "another process" in capsys.readouterr().err


def test_no_disk_space(
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    command = FIT.replace("$d/new", str(tmp_path / "new"))
    assert main(shlex.split(Template(command).substitute(places))) == 2
    assert "disk space" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

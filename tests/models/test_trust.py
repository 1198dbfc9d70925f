"""Files of others are read, never run: models with code of their own, and pickles."""

import ast
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import steer
from steer.cli.main import main
from steer.errors import SteerError
from steer.models.base import load_model, load_tokenizer
from steer.models.embedder import load_embedder
from steer.models.expert import Expert
from steer.models.fingerprints import ADAPTER_WEIGHTS
from steer.models.judge import load_judge
from tests import tiny

LOADERS = {"from_pretrained", "from_config", "SentenceTransformer"}
CODE = "import pathlib\npathlib.Path(r'{mark}').touch()\nclass Own: pass\n"


class Payload:
    """A pickle of it runs a command when it is loaded without care."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self._mark}",)


def _pickled(mark: Path) -> bytes:
    """A file as `torch.save` writes it, but for what is in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Payload(mark)}, protocol=2))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def _calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in Path(steer.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node, getattr(node.func, "attr", getattr(node.func, "id", ""))


def test_every_loader_is_told_to_run_no_code() -> None:
    seen = 0
    for path, call, name in _calls():
        if name not in LOADERS or ast.unparse(call.func).startswith("PeftModel."):
            continue  # PEFT knows no such argument: an adapter has no code
        told = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert told.get("trust_remote_code") == "False", f"{path}:{call.lineno}"
        seen += 1
    assert seen > 5


def _model_with_code(folder: Path, tiny_model: Path, mark: Path) -> None:
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    (folder / "own.py").write_text(CODE.format(mark=mark))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["Own"],
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config))


def _tokenizer_with_code(folder: Path, tiny_model: Path, mark: Path) -> None:
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    (folder / "own.py").write_text(CODE.format(mark=mark))
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").unlink()


def _embedder_with_code(folder: Path, _: Path, mark: Path) -> None:
    (folder / "own.py").write_text(CODE.format(mark=mark))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "load"),
    [
        (_model_with_code, load_model),
        (_tokenizer_with_code, load_tokenizer),
        (_embedder_with_code, load_embedder),
    ],
)
def test_code_that_comes_with_a_model_does_not_run_though_the_answer_is_yes(
    make: Callable[[Path, Path, Path], None],
    load: Callable[[str], object],
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "model"
    folder.mkdir()
    make(folder, tiny_model, mark)
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)  # as it is for a command that is begun in this folder
    with pytest.raises(SteerError) as raised:
        load(str(folder))
    assert not mark.exists()
    assert "\n" not in str(raised.value)
    assert "trust_remote_code" not in str(raised.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_of_a_model_are_not_run(
    name: str, tmp_path: Path, tiny_model: Path
) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(_pickled(mark))
    with pytest.raises(SteerError, match="cannot load model") as raised:
        load_model(str(folder))
    assert not mark.exists()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["adapter_model.bin", ADAPTER_WEIGHTS])
def test_a_pickled_adapter_gives_one_line(
    name: str, tmp_path: Path, tiny_expert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, folder = tmp_path / "ran", tmp_path / "expert"
    shutil.copytree(tiny_expert, folder)
    (folder / ADAPTER_WEIGHTS).unlink()
    (folder / name).write_bytes(_pickled(mark))
    (tmp_path / "real.txt").write_text("\n".join(tiny.TEXTS[:40]))
    command = ["generate", str(folder), "--real", str(tmp_path / "real.txt"), "--n", "2"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said
    assert not mark.exists()


def test_a_damaged_adapter_of_a_judge_gives_one_line(tmp_path: Path, tiny_expert: Path) -> None:
    folder = tmp_path / "expert"
    shutil.copytree(tiny_expert, folder)
    (folder / ADAPTER_WEIGHTS).write_bytes(_pickled(tmp_path / "ran"))
    Expert.load(folder)  # its card and settings are whole
    with pytest.raises(SteerError, match="does not fit its base model") as raised:
        load_judge(str(folder))
    assert "\n" not in str(raised.value)

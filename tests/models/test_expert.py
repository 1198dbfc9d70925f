import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from steer.data.tasks import Task
from steer.errors import SteerError
from steer.models.expert import Expert, FitSettings
from tests import tiny


def test_to_read_an_expert_needs_no_model_library() -> None:
    heavy = {"accelerate", "datasets", "peft", "torch", "transformers"}
    program = f"import sys, steer.models.expert; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


def test_load_refuses_what_is_no_expert(tiny_expert: Path, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(SteerError) as error:
            Expert.load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "does not exist" in refused(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "is a file" in refused(tmp_path / "file")
    assert "no expert.json" in refused(tmp_path)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        folder = shutil.copytree(tiny_expert, tmp_path / name.partition(".")[0])
        (folder / name).unlink()
        assert f"has no {name}" in refused(folder)
    folder = shutil.copytree(tiny_expert, tmp_path / "damaged")
    for content in ("{", "[]", "{}", '{"prompt": 3}'):
        (folder / "expert.json").write_text(content)
        assert "damaged expert" in refused(folder)


def test_an_expert_from_before_tasks_had_names_loads(tiny_expert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_expert, tmp_path / "old")
    card = json.loads((folder / "expert.json").read_text())
    for name in ("task_name", "form", "whitespace", "pattern", "min_chars", "max_new_tokens"):
        del card[name]
    (folder / "expert.json").write_text(json.dumps(card))
    assert Expert.load(folder).task == Task(tiny.PROMPT)
    assert Expert.load(folder).max_completion_tokens > 7


@pytest.mark.parametrize(
    "setting",
    [{"epochs": 0}, {"lr": float("nan")}, {"held_out": 0}, {"batch": 0}, {"seed": -1}, {"ep": 1}],
)
def test_settings_out_of_range(setting: dict) -> None:
    with pytest.raises(SteerError, match=next(iter(setting))):
        FitSettings(**setting)

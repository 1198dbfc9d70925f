"""The README's commands and example are what the program understands."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import steer
from steer.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^steer .+$", README, re.MULTILINE)
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_tour_has_every_command():
    named = {shlex.split(command)[1] for command in COMMANDS}
    assert named == {"fit", "generate", "show", "evaluate", "export"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command, tmp_path, monkeypatch, capsys):
    """In an empty folder each fails on its first missing file, not on how it is written."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[1:]
    assert main(arguments) == 2
    assert arguments[1] in capsys.readouterr().err


def test_the_example_is_short_and_uses_what_is_exported():
    assert len(EXAMPLE.strip().splitlines()) <= 15
    tree = ast.walk(ast.parse(EXAMPLE))
    attributes = [node for node in tree if isinstance(node, ast.Attribute)]
    used = {a.attr for a in attributes if isinstance(a.value, ast.Name) and a.value.id == "steer"}
    assert used >= {"load_corpus", "fit", "HFEngine", "generate", "evaluate"}
    assert used <= set(steer.__all__)


def test_everything_exported_is_there():
    assert all(getattr(steer, name) is not None for name in steer.__all__)

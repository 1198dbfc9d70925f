"""The README's commands and example are what the program understands."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import steer
from steer.cli.main import app, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
COMMANDS = re.findall(r"^steer .+$", README, re.MULTILINE)
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_tour_has_every_command():
    named = {shlex.split(command)[1] for command in COMMANDS}
    every = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert named == every


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command, tmp_path, monkeypatch, capsys):
    """In an empty folder each fails on its first missing file, not on how it is written."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[1:]
    assert main(arguments) == 2
    assert arguments[1] in capsys.readouterr().err


def test_the_example_is_short_and_uses_what_is_exported():
    assert len(EXAMPLE.strip().splitlines()) <= 15
    used = {node.attr for node in ast.walk(ast.parse(EXAMPLE)) if is_ours(node)}
    assert used >= {"load_corpus", "fit", "HFEngine", "generate", "evaluate"}
    assert used <= set(steer.__all__)


@pytest.mark.parametrize("page", [name for name in PAGES if "```python" in PAGES[name]])
def test_what_the_pages_use_is_exported(page):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL))
    names = {node.attr for node in ast.walk(ast.parse(code)) if is_ours(node)}
    assert names and names <= set(steer.__all__)


def is_ours(node):
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "steer"
    )


def test_everything_exported_is_there():
    assert all(getattr(steer, name) is not None for name in steer.__all__)

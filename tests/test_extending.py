"""What docs/extending.md shows works: its code runs, and its changes do what it says."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steer
from steer import guidance, methods
from steer.data import catalog
from steer.engines import choice, scoring
from steer.engines.interface import Step
from steer.runs import records
from tests import stub

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
MOVED = {"variety": "steer/evaluation/diversity.py", "central": "steer/runs/selection.py"}
"""Functions that the page says to move, and where to."""

NAMED = {
    catalog: "BUILT_IN",
    choice: "EngineName EngineSpec.load EngineSpec.require",
    guidance: "_contrasts build_streams",
    methods: "METHODS",
    records: "STREAMS",
    scoring: "Rows",
}
"""What the page says to look at or change."""

Change = tuple[str, str, str]
"""A file, some lines of it, and what they become."""


def run_page(names: dict[str, Any]) -> dict[str, Any]:
    """Runs the code in order, with `names` given; a YAML file is written where it says."""
    for number, (kind, text) in enumerate(BLOCKS, 1):
        if kind == "yaml":
            file = text.split()[1]
            (names["folder"] / file).write_text(text)
        elif kind == "python":
            exec(compile(text, f"docs/extending.md, block {number}", "exec"), names)
    return names


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("page")
    return run_page({"real": stub.corpus(40), "expert": stub.StubExpert(), "folder": folder})


def test_the_engine_makes_a_run(page: dict[str, Any]) -> None:
    run, known = page["run"], set(page["engine"].words)
    assert run.complete and len(run.records) == 40
    assert run.sources.engine == "words"
    assert all(len(text.split()) == 8 and set(text.split()) <= known for text in run.texts)
    assert steer.Run.open(page["folder"] / "words").texts == run.texts


def test_the_engine_keeps_its_promises(page: dict[str, Any]) -> None:
    engine, asked, steps = page["engine"], page["Request"], []
    requests = [asked(number, page["streams"], seed=9 - number) for number in range(5)]
    made = engine.generate(requests, steer.Sampling(max_new_tokens=6), steps.append)
    assert [(each.id, each.tokens, each.finish_reason) for each in made] == [
        (number, 6, "length") for number in range(5)
    ]
    assert steps == [Step(tokens=30, finished=5)]
    alone = engine.generate([replace(requests[3], id=0)], steer.Sampling(max_new_tokens=6))
    assert alone[0].text == made[3].text
    assert len({each.text for each in made}) == 5


def test_the_metric_lies_in_its_interval(page: dict[str, Any]) -> None:
    estimate, split = page["estimate"], [text.split() for text in page["run"].texts]
    assert estimate.value == sum(len(set(words)) for words in split) / sum(map(len, split))
    assert 0.8 < estimate.low < estimate.value < estimate.high < 1


def test_the_method_makes_a_run_with_its_settings(page: dict[str, Any]) -> None:
    run = page["cold_run"]
    assert run.complete and len(run.records) == 20
    assert (run.config.method, run.config.sampling.max_new_tokens) == ("cold-steer", 40)
    assert run.config.sampling.temperature == 0.8
    assert {(each.gamma, each.eta, len(each.panel)) for each in run.records} == {(0.3, 0.1, 10)}
    for record in run.records:
        read = {name for name, value in record.log_probs.items() if value is not None}
        assert read == {"expert", "base", "negative"}


def test_the_engine_takes_any_streams(page: dict[str, Any]) -> None:
    assert set(page["answer"].log_probs) == {"expert", "contrast"}
    assert len(page["answer"].text.split()) == 8


def test_the_selection_takes_the_middle(page: dict[str, Any]) -> None:
    angles = np.radians([-80, -40, -1, 1, 40, 80])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for seed in range(5):
        chosen = page["central"](rows, 3, random.Random(seed))
        assert len(set(chosen)) == 3 and all(isinstance(row, int) for row in chosen)
    even = random.Random(0)
    even.sample = lambda every, size: list(every)  # the whole pool, not a half
    assert set(page["central"](rows, 2, even)) == {2, 3}


def test_the_task_is_the_same_in_yaml(page: dict[str, Any]) -> None:
    assert page["loaded"] == replace(page["task"], name="riddles")
    assert page["prompt"] == "Write a hard riddle.\nRiddle:"
    assert page["record"] == "What has keys but no locks?"
    assert page["loaded"].parse("No question.") is None


def changes() -> Iterator[Change]:
    """What the page's diffs say, in order."""
    for kind, text in BLOCKS:
        for part in text.split("+++ ")[1:] if kind == "diff" else ():
            file, *lines = part.splitlines()
            assert {line[0] for line in lines} <= set(" +-")
            old, new = ([line[1:] for line in lines if line[0] in kept] for kept in (" -", " +"))
            yield file, "\n".join(old), "\n".join(new)


def source(name: str) -> str:
    """The block that defines the function."""
    return next(text for kind, text in BLOCKS if kind == "python" and f"def {name}(" in text)


def test_the_changes_work_in_a_copy_of_the_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "steer", tmp_path / "steer", ignore=shutil.ignore_patterns("*.pyc"))
    for file, old, new in changes():
        text = (tmp_path / file).read_text("utf-8")
        assert text.count(f"{old}\n") == 1, f"{file} has not once: {old}"
        (tmp_path / file).write_text(text.replace(old, new), "utf-8")
    for name, file in MOVED.items():
        assert f"`{file}`" in PAGE
        with (tmp_path / file).open("a") as module:
            module.write(f"\n\n{source(name)}")
    check = [sys.executable, str(ROOT / "tests" / "extended.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_the_page_names_is_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link
    for module, names in NAMED.items():
        for name in names.split():
            assert f"`{name}`" in PAGE
            assert attrgetter(name)(module) is not None
    contract = (ROOT / "tests" / "engines" / "contract.py").read_text("utf-8")
    assert "`EngineContract`" in PAGE and "class EngineContract:" in contract


def test_other_pages_link_to_its_sections() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for page in ("methods", "tasks"):
        text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
        linked = re.findall(r"\(extending\.md#([\w-]+)\)", text)
        assert linked and set(linked) <= anchors

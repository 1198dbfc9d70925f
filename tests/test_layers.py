"""The folders are the layers, and imports only go down them (docs/architecture.md)."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "steer"
# A folder may import those before it in its line of descent; "" is the files beside the folders.
BELOW = {
    "": "",
    "data": "",
    "models": "data",
    "engines": "models",
    "evaluation": "models",
    "correction": "models",
    "runs": "engines correction",
    "experiments": "runs evaluation",
    "report": "experiments",
    "serving": "runs",
    "plugins": "runs",
    "cli": "report serving",
}
# The package's face gives every public name; the others load what is asked for only then.
FACE = {"steer.__init__", "steer.__main__"}
LAZY_FOLDERS = {"cli", "plugins"}
LAZY_MODULES = {
    "steer.__init__",
    "steer.engines.choice",
    "steer.engines.hf.model",
    "steer.engines.vllm.engine",
}
# Slow to load, or optional: imported where they are used.
LAZY_LIBRARIES = (
    "accelerate charset_normalizer datasets fsspec gguf huggingface_hub llguidance mauve openpyxl "
    "optuna pandas peft pyarrow ray sacrebleu safetensors scipy sentence_transformers sklearn "
    "torch transformers umap vllm xgboost"
)


def module_name(path: Path) -> str:
    return ".".join(("steer", *path.relative_to(PACKAGE).with_suffix("").parts))


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module: str) -> str:
    """The folder of a module such as `steer.engines.hf.lanes`: engines."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else ""


def below(folder: str) -> set[str]:
    """The folders that one may import, itself included."""
    return {folder, ""}.union(*map(below, BELOW[folder].split()))


def targets(node: ast.AST) -> Iterator[str]:
    """The modules that one statement imports; `from steer import x` counts as `steer.x`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "relative imports hide the layer"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in MODULES or f"{full}.__init__" in MODULES else str(node.module)


def imports(tree: ast.AST) -> set[str]:
    """Every module imported anywhere in the file."""
    return {target for node in ast.walk(tree) for target in targets(node)}


def lazy_imports(tree: ast.AST) -> set[str]:
    """Modules imported inside a function."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    functions = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return {target for function in functions for target in imports(function)}


def ours(found: set[str]) -> set[str]:
    """Those of `found` that are modules of the package; a package stands for its __init__."""
    names = {name if name in MODULES else f"{name}.__init__" for name in found}
    return names & set(MODULES)


def upward(module: str, found: set[str]) -> list[str]:
    """Imports of `module` that do not go down (or stay in its own folder)."""
    if module in FACE:
        return []
    allowed = below(layer(module))
    return [target for target in sorted(ours(found)) if layer(target) not in allowed]


def is_lazy(module: str) -> bool:
    return module in LAZY_MODULES or layer(module) in LAZY_FOLDERS


TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    assert upward(module, imports(TREES[module])) == []


def test_no_import_cycles() -> None:
    graph = {module: ours(imports(tree)) for module, tree in TREES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [name for name in MODULES if not is_lazy(name)])
def test_imports_are_at_the_top_unless_heavy_or_optional(module: str) -> None:
    found = {name.split(".")[0] for name in lazy_imports(TREES[module])}
    assert found <= set(LAZY_LIBRARIES.split())


def test_every_folder_is_a_layer() -> None:
    folders = {layer(module) for module in MODULES}
    assert folders == set(BELOW)


def test_the_checks_can_fail() -> None:
    tree = ast.parse("def f():\n    from steer.evaluation import diversity\n    import json\n")
    assert lazy_imports(tree) >= {"json"}
    interface = "steer.engines.interface"
    assert upward(interface, {"steer.evaluation.diversity", "steer.config"}) == [
        "steer.evaluation.diversity"
    ]
    assert upward("steer.config", {interface}) == [interface]
    assert upward("steer.evaluation.sets", {"steer.runs.store"}) == ["steer.runs.store"]
    assert upward("steer.cli.main", {"steer.runs.store", "steer.engines.hf.engine"}) == []

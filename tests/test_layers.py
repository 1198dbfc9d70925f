"""Imports only go down: apps > generation > engines | metrics > core (docs/architecture.md)."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "steer"
RANKS = {"core": 0, "engines": 1, "metrics": 1, "generation": 2, "apps": 3, "face": 4}
LAYERS = {
    "core": "config data errors files guidance hub machine methods models neardup negatives "
    "places postings questions quiet records rounds runconfig sampling seeds selection spaces "
    "store taskfiles tasks version",
    "generation": "comparison evaluation expert exporting generation judges panels processor "
    "report reporting runloop training trials tunefiles tuning",
    "apps": "__main__ cli console distributed options studies views",
    "face": "__init__",
}
# The command line, the package's face and the choice of an engine load what is asked for only then.
LAZY_MODULES = {
    "steer.cli",
    "steer.studies",
    "steer.__init__",
    "steer.engines.choice",
    "steer.engines.vllm",
}
# Slow to load, or optional: imported where they are used.
LAZY_LIBRARIES = (
    "accelerate datasets fsspec gguf huggingface_hub mauve optuna pandas peft pyarrow ray "
    "sacrebleu safetensors sentence_transformers sklearn torch transformers vllm xgboost"
)


def module_name(path: Path) -> str:
    return ".".join(("steer", *path.relative_to(PACKAGE).with_suffix("").parts))


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module: str) -> str:
    """The layer of a module such as `steer.engines.hf`."""
    part = module.split(".")[1]
    if part in ("engines", "metrics"):
        return part
    for name, members in LAYERS.items():
        if part in members.split():
            return name
    raise AssertionError(f"{module} is in no layer: add it to LAYERS in this test")


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
    """Imports of `module` that do not go down (or stay in its own layer)."""
    here = layer(module)
    return [
        target
        for target in sorted(ours(found))
        if layer(target) != here and RANKS[layer(target)] >= RANKS[here]
    ]


TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    assert upward(module, imports(TREES[module])) == []


def test_no_import_cycles() -> None:
    graph = {module: ours(imports(tree)) for module, tree in TREES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", sorted(set(MODULES) - LAZY_MODULES))
def test_imports_are_at_the_top_unless_heavy_or_optional(module: str) -> None:
    found = {name.split(".")[0] for name in lazy_imports(TREES[module])}
    assert found <= set(LAZY_LIBRARIES.split())


def test_the_checks_can_fail() -> None:
    tree = ast.parse("def f():\n    from steer.metrics import diversity\n    import json\n")
    assert lazy_imports(tree) >= {"json"}
    assert upward("steer.engines.interface", {"steer.metrics", "steer.config"}) == [
        "steer.metrics.__init__"
    ]
    assert upward("steer.config", {"steer.engines.interface"}) == ["steer.engines.interface"]

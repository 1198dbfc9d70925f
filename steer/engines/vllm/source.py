"""A package's source from outside: its classes, functions and their parameters, nothing imported.

A module that fails to import does not say which method of it is gone; its source does.
"""

import ast
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from steer.errors import SteerError

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Signature:
    """Parameters of a function, without self: those that may be given by position, those by name
    only, those that must be given, and whether any other name is taken too."""

    positional: tuple[str, ...]
    named: tuple[str, ...]
    needed: frozenset[str]
    others: bool

    @classmethod
    def of(cls, function: Function, *, method: bool) -> "Signature":
        """Reads a definition."""
        given = function.args
        positional = [each.arg for each in (*given.posonlyargs, *given.args)]
        needed = positional[: len(positional) - len(given.defaults)]
        static = any(getattr(each, "id", "") == "staticmethod" for each in function.decorator_list)
        first = int(method and not static)  # self or class
        named = [each.arg for each in given.kwonlyargs]
        needed += [
            name for name, default in zip(named, given.kw_defaults, strict=True) if default is None
        ]
        return cls(
            tuple(positional[first:]), tuple(named), frozenset(needed[first:]), bool(given.kwarg)
        )

    def takes(self, call: "Signature") -> bool:
        """Whether a call fits: the same names in the same places, and nothing needed left out."""
        count = len(call.positional)
        by_name = {*self.positional[count:], *self.named}
        return (
            self.positional[:count] == call.positional
            and (self.others or by_name.issuperset(call.named))
            and self.needed.issubset((*call.positional, *call.named))
        )

    def same(self, other: "Signature") -> bool:
        """Whether both have the same parameters, as a method and its override should."""
        return str(self) == str(other)

    def __str__(self) -> str:
        named = ("*", *self.named) if self.named else ()
        return f"({', '.join((*self.positional, *named, *(['**'] if self.others else [])))})"


@dataclass(frozen=True)
class Found:
    """A definition, and the module that holds it."""

    module: str
    node: ast.stmt


class Source:
    """Packages' source in `root`: a folder that holds theirs, or a wheel as it is."""

    def __init__(self, root: Path | zipfile.Path) -> None:
        self.root = root
        self.trees: dict[str, ast.Module | None] = {}

    def tree(self, module: str) -> ast.Module | None:
        """Parses a module; None when there is none of that name. Raises `SteerError` for one that
        this Python cannot read."""
        if module not in self.trees:
            self.trees[module] = self._read(module)
        return self.trees[module]

    def _read(self, module: str) -> ast.Module | None:
        path = module.replace(".", "/")
        for name in (f"{path}.py", f"{path}/__init__.py"):
            file = self.root.joinpath(name)
            if file.is_file():
                try:
                    return ast.parse(file.read_text(encoding="utf-8"))
                except (SyntaxError, ValueError) as error:
                    raise SteerError(f"{name} is no Python of this version: {error}") from None
        return None

    def find(self, module: str, name: str, asked: tuple[str, ...] = ()) -> Found | None:
        """Finds what `from module import name` gives, through modules that only pass it on; `asked`
        are those on the way, which a circle of imports comes back to."""
        tree = self.tree(module)
        if tree is None or module in asked:
            return None
        for node in statements(tree.body):
            if name in defined(node):
                return Found(module, node)
            if isinstance(node, ast.ImportFrom):
                names = [each.name for each in node.names if name == (each.asname or each.name)]
                origin = self._origin(module, node)
                if names and (found := self.find(origin, names[0], (*asked, module))):
                    return found
        return None

    def _origin(self, module: str, node: ast.ImportFrom) -> str:
        """Resolves the module that a statement in `module` imports from."""
        if not node.level:
            return node.module or ""
        package = self.root.joinpath(module.replace(".", "/"), "__init__.py").is_file()
        parts = module.split(".")
        above = parts[: len(parts) + int(package) - node.level]
        return ".".join([*above, *([node.module] if node.module else [])])

    def members(self, found: Found) -> dict[str, Found]:
        """Names that a class defines, or sets on self, with those of its bases in this source."""
        if not isinstance(found.node, ast.ClassDef):
            return {}
        members: dict[str, Found] = {}
        for base in reversed(found.node.bases):
            above = self.find(found.module, base.id) if isinstance(base, ast.Name) else None
            if above and above != found:
                members |= self.members(above)
        return members | {name: Found(found.module, node) for name, node in own(found.node)}

    def has_text(self, module: str, text: str) -> bool:
        """Whether a string constant of the module is `text`."""
        tree = self.tree(module)
        return tree is not None and any(
            isinstance(node, ast.Constant) and node.value == text for node in ast.walk(tree)
        )


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module or class, those under its conditions too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            handlers = getattr(node, "handlers", [])
            for block in (node.body, *(each.body for each in handlers), node.orelse):
                yield from statements(block)


def defined(node: ast.stmt) -> set[str]:
    """Names that one statement defines."""
    if isinstance(node, ast.ClassDef | Function):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {name for target in targets for name in _stored(target)}
    return set()


def _stored(target: ast.expr) -> Iterator[str]:
    return (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def own(node: ast.ClassDef) -> Iterator[tuple[str, ast.stmt]]:
    """Names that a class itself defines, each with its definition: what its methods set on self
    first, so that a name in the class's own body counts for more."""
    body = list(statements(node.body))
    for method in body:
        if isinstance(method, Function):
            yield from ((each.attr, method) for each in ast.walk(method) if _is_set_on_self(each))
    for each in body:
        yield from ((name, each) for name in defined(each))


def _is_set_on_self(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )

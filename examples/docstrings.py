"""A real corpus that every machine already has: Python's own one-line docstring summaries.

    python examples/docstrings.py corpus.jsonl

reads the standard library's source (nothing is imported or run) and writes about 3,600 lines
such as {"text": "Return the absolute value of the argument."}.
"""

import ast
import json
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}


def stdlib_summaries() -> list[str]:
    """Distinct summaries, in the order of the files' names: the same list on every call."""
    root = Path(sysconfig.get_path("stdlib"))
    found = (summary for path in sorted(root.rglob("*.py")) for summary in _summaries(root, path))
    return list(dict.fromkeys(found))


def _summaries(root: Path, path: Path) -> Iterator[str]:
    if NOT_THE_LIBRARY & set(path.relative_to(root).parts):
        return
    for docstring in docstrings_of(path):
        first = docstring.splitlines()[0]
        if _is_summary(first):
            yield first


def docstrings_of(path: Path) -> Iterator[str]:
    """Docstrings of a source file, whole; none where it is no Python (templates, deliberate bad
    source)."""
    try:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
    except (SyntaxError, UnicodeDecodeError):
        return
    documented = (node for node in ast.walk(tree) if isinstance(node, Documented))
    yield from (text.strip() for text in filter(None, map(ast.get_docstring, documented)))


def _is_summary(line: str) -> bool:
    """A whole sentence in plain characters, neither a title nor a signature."""
    return line.isascii() and line.endswith(".") and 20 <= len(line) <= 120 and line[0].isupper()


def write_corpus(texts: list[str], path: Path) -> None:
    """JSONL, one {"text": ...} a line."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/docstrings.py OUT.jsonl")
    write_corpus(stdlib_summaries(), Path(sys.argv[1]))

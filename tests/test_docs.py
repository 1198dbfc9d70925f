"""Paths, modules and names on the pages exist, links resolve, lines fit into 100 columns."""

import re
from pathlib import Path

import pytest

import steer
from steer.evaluation import table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ("steer/", "tests/", "docs/", "benchmarks/", "examples/")
COLUMNS = 100


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request):
    return request.param


def test_paths_exist(page):
    assert [path for path in paths(page.read_text()) if not (ROOT / path).exists()] == []


def test_modules_exist(page):
    assert [name for name in modules(page.read_text()) if not is_module(name)] == []


def test_names_of_the_package_are_exported(page):
    unknown = set(package_names(page.read_text())) - set(steer.__all__)
    assert {name for name in unknown if not is_module(f"steer.{name}")} == set()


def test_links_resolve(page):
    targets = links(page.read_text())
    assert [each for each in targets if not (page.parent / each).exists()] == []


def test_lines_fit(page):
    assert [line for line in prose(page.read_text()) if len(line) > COLUMNS] == []


def test_every_column_of_the_table_is_explained():
    page = (ROOT / "docs" / "measures.md").read_text()
    explained = set(re.findall(r"\*\*(.+?)\*\*", page))
    assert {column.title for column in table.COLUMNS} - explained == set()


def test_only_paths_of_the_repository_are_looked_for():
    text = "`steer/gone.py`, `gone.py`, `steer/<layer>/gone.py`, `run/gone.json`, `a/b`, gone.py"
    assert paths(text) == ["steer/gone.py", "gone.py"]


def test_modules_are_found_in_commands_and_in_words():
    text = "`benchmarks.gone` and steer. `steer.Gone`\n```sh\npython -m examples.gone\n```"
    assert modules(text) == ["benchmarks.gone", "examples.gone"]
    assert package_names(text) == ["Gone"]


def test_links_to_the_web_and_into_a_page_are_not_looked_for():
    text = "[a](gone.md#part), ![b](gone.svg), [c](#part), [d](https://example.org/gone.md)"
    assert links(text) == ["gone.md", "gone.svg"]


def test_prose_has_no_tables_code_comments_headings_and_links():
    text = "one\n| two |\n```\nthree\n```\n<!-- four\nfive -->\n# six\n[seven](a.md)\neight"
    assert [line for line in prose(text) if line] == ["one", "eight"]


def paths(text):
    """Words in backticks that name a file or folder, from the root of the repository."""
    words = re.findall(r"`([\w./-]+)`", without_blocks(text))
    return [word for word in words if word.startswith(FOLDERS) or word.endswith((".py", ".md"))]


def modules(text):
    """Modules beside the package, in commands and in words."""
    return re.findall(r"\b((?:benchmarks|examples)(?:\.[a-z_]+)+)", text)


def is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def package_names(text):
    """What follows `steer.`: a public name, or the first module of a longer path."""
    return re.findall(r"\bsteer\.(\w+)", text)


def links(text):
    """Relative targets of links and pictures, each without the heading it points to."""
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", without_blocks(text))
    return [target for target in targets if "://" not in target]


def prose(text):
    """The lines that can be wrapped."""
    comments = re.compile(r"<!--.*?-->", re.DOTALL)
    lines = comments.sub("", without_blocks(text)).splitlines()
    return [line for line in lines if not re.match(r"\s*(\||#)", line) and not has_link(line)]


def has_link(line):
    return "](" in line or "://" in line


def without_blocks(text):
    return re.sub(r"^\s*```.*?^\s*```$", "", text, flags=re.DOTALL | re.MULTILINE)

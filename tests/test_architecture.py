"""docs/architecture.md names every folder and every module of the package, where it is."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def named(page: str) -> set[str]:
    """The modules in the page's tree, such as "engines/hf/lanes": a line holds a name, or several
    with commas, before what is said of it."""
    (tree,) = re.findall(r"^```\nsteer/\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    folders: list[str] = []
    for line in filter(str.strip, tree.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        del folders[depth:]
        if line.rstrip().endswith("/"):
            folders.append(line.strip())
            continue
        words = re.match(r"\s*([a-z_]+(?:, [a-z_]+)*)(?:\s|$)", line)
        assert words, line
        found |= {"".join(folders) + word for word in words[1].split(", ")}
    return found


def modules() -> set[str]:
    package = ROOT / "steer"
    paths = (path.relative_to(package).with_suffix("") for path in package.rglob("*.py"))
    return {path.as_posix() for path in paths if not path.name.startswith("__")}


def test_every_module_is_named() -> None:
    assert named(PAGE) == modules()


def test_a_module_that_is_left_out_shows() -> None:
    assert named(PAGE.replace("    lanes ", "    lane ", 1)) != modules()
    assert named(PAGE.replace("  data/", "  date/", 1)) != modules()


def test_every_layer_stands_in_the_picture() -> None:
    picture = PAGE.split("```")[1]
    for folder in sorted(path.name for path in (ROOT / "steer").iterdir() if path.is_dir()):
        assert folder.startswith("__") or re.search(rf"\b{folder}\b", picture)

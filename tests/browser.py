"""A real browser for tests of pages: needs the package playwright and an installed Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
_AXE = find_spec("axe_playwright_python")
needs_axe = pytest.mark.skipif(_AXE is None, reason="axe-playwright-python is not installed")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")


@contextmanager
def launched() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


def visit(browser: Any, address: str, size: tuple[int, int], scheme: str = "light") -> Any:
    """Opens a page; `problems` has what the console says, and `asked` what is asked for."""
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(120_000)  # a busy machine draws slowly
    page.problems, page.asked = [], []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("dialog", lambda dialog: page.problems.append(dialog.message))
    page.on("request", lambda request: page.asked.append(request.url))
    if _AXE and _AXE.origin:  # before the page, whose policy lets no other script in
        page.add_init_script(path=Path(_AXE.origin).parent / "axe.min.js")
    page.goto(address)
    return page


def violations(page: Any) -> list[str]:
    """What axe-core finds wrong with the page as it is now."""
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def wait_until(page: Any, condition: str) -> None:
    """Playwright's own way needs `eval`, which the pages' policies forbid."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")

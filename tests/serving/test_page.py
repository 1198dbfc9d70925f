"""The page in a real browser: needs the package playwright and an installed Chromium."""

from collections.abc import Iterator
from typing import Any

import pytest

from steer.runs.store import Run
from steer.serving.experts import Served
from steer.serving.settings import ServeSettings
from tests.browser import needs_browser, visit, wait_until
from tests.serving.conftest import Running, running

pytestmark = needs_browser
SCREENS = {"phone": (390, 844), "desktop": (1280, 900)}
WRITTEN = "document.querySelectorAll('.written [data-id]').length"


@pytest.fixture
def opened(browser: Any, server: Running) -> Iterator[Any]:
    """The page on a desktop, in the light; what the console says fails the test."""
    page = visit(browser, server.address, SCREENS["desktop"])
    yield page
    assert page.problems == []
    page.close()


def write(page: Any, **values: str) -> None:
    wait_until(page, "'ready' in document.documentElement.dataset")
    for name, value in {"count": "2", "most": "10", **values}.items():
        page.evaluate(
            "([id, value]) => { const it = document.getElementById(id); it.value = value;"
            "it.dispatchEvent(new Event('input', { bubbles: true })); }",
            [name, value],
        )
    page.click("#go")
    wait_until(page, f"{WRITTEN} === {2 * int(values.get('count', 2))}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_part_fits_the_screen_and_asks_nobody_else(
    browser: Any, server: Running, screen: str, scheme: str
) -> None:
    page = visit(browser, server.address, SCREENS[screen], scheme)
    write(page)
    page.locator("#guided button", has_text="See").first.click()
    for part in ("write", "see", "texts", "judge", "take"):
        page.click(f"#tab-{part}")
        assert page.is_visible(f"#{part}")
        assert page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen][0]
    assert all(url.startswith((server.address, "data:")) for url in page.asked)
    assert page.problems == []
    page.close()


def test_both_columns_have_the_same_seeds(opened: Any) -> None:
    same = {f"dial-{name}": "0" for name in ("gamma", "eta", "rho", "alpha")}
    write(opened, **same)
    texts = [opened.locator(f"#{each} p").all_inner_texts() for each in ("guided", "plain")]
    assert texts[0] == texts[1] and len(set(texts[0])) == 2
    assert opened.input_value("#seed") == "2"
    write(opened, **{"dial-gamma": "2", "dial-eta": "1", "seed": "1"})
    assert opened.locator("#plain p").all_inner_texts() == texts[1]
    assert opened.locator("#guided p").all_inner_texts() != texts[1]


def test_a_text_is_seen_and_steered_by_keyboard(opened: Any) -> None:
    write(opened, **{"dial-gamma": "1", "dial-alpha": "0.3"})
    opened.locator("#guided button", has_text="See").first.click()
    tokens = opened.locator("#strip [role=option]")
    before = tokens.all_inner_texts()
    for _ in range(2):
        opened.keyboard.press("ArrowRight")
    assert opened.locator("#strip [aria-selected=true]").get_attribute("id") == "token-2"
    heads = opened.locator("#streams th").all_inner_texts()
    assert heads == ["token", "expert", "base", "negative", "final", ""]
    assert opened.locator("#candidates tr.cut").count()
    other = opened.locator("#candidates tr:not(.chosen) button").first
    chosen = other.inner_text().replace("␣", " ")
    other.focus()
    opened.keyboard.press("Enter")
    wait_until(opened, "document.querySelectorAll('#strip .begun').length === 3")
    wait_until(opened, "!document.getElementById('back').disabled")
    after = tokens.all_inner_texts()
    assert after[:2] == before[:2] and after[2].strip() == chosen.strip()
    opened.click("#back")
    assert tokens.all_inner_texts() == before


def test_real_texts_are_sent_to_away_and_towards(opened: Any) -> None:
    write(opened)
    opened.click("#tab-texts")
    opened.fill("#search", "why comet shine")
    assert opened.inner_text("#found") == "4 of 200"
    opened.locator("#real button", has_text="Away").first.click()
    opened.locator("#real button", has_text="Towards").nth(1).click()
    assert opened.locator("#moved h3").count() == 2
    assert opened.input_value("#dial-rho") == "0.2"
    opened.click("#tab-take")
    request = opened.inner_text("#as-request")
    assert '"away": [\n    "real:' in request and '"towards": [\n    "real:' in request
    command = opened.inner_text("#as-command")
    assert (
        command.startswith("steer generate tiny --real DATA --out run") and "--rho 0.2" in command
    )
    opened.click("#tab-write")
    write(opened)


def test_texts_judged_by_key_become_a_run(opened: Any, server: Running) -> None:
    write(opened)
    opened.click("#tab-judge")
    for key in ("k", "r", "k"):
        opened.keyboard.press(key)
    assert "2 kept, 1 rejected" in opened.inner_text("#tally")
    opened.fill("#name", "judged")
    opened.click("#save button[type=submit]")
    wait_until(opened, "document.getElementById('saved').textContent.startsWith('saved: 2')")
    assert server.saved
    run = Run.open(server.saved / "judged")
    assert (len(run.records), len(run.rejects)) == (2, 1)


def test_texts_are_shown_as_they_are(browser: Any, served: list[Served], monkeypatch: Any) -> None:
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    monkeypatch.setattr("steer.serving.listing.MOST", 1)
    real = served[0].real
    monkeypatch.setitem(real.__dict__, "texts", (evil, *real.texts[1:]))
    with running(served, ServeSettings(api_key="k")) as server:
        page = visit(browser, server.address, SCREENS["desktop"])
        wait_until(page, "!document.getElementById('door').hidden")
        page.fill("#key", "k")
        page.click("#door button")
        wait_until(page, "document.querySelectorAll('#real li').length === 1")
        page.click("#tab-texts")
        assert page.inner_text("#real p") == evil
        assert all("401" in each for each in page.problems)
        page.close()


def test_everything_is_reached_by_keyboard(opened: Any) -> None:
    wait_until(opened, "'ready' in document.documentElement.dataset")
    reached = set()
    for _ in range(30):
        opened.keyboard.press("Tab")
        reached.add(
            opened.evaluate("document.activeElement.id || document.activeElement.className")
        )
    wanted = {"skip", "model", "method", "dial-gamma", "dial-alpha", "seed", "tab-write", "go"}
    assert wanted <= reached
    opened.focus("#tab-write")
    opened.keyboard.press("ArrowRight")
    assert opened.is_visible("#see")

"""The page in a real browser: needs the package playwright and an installed Chromium."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steer.data.corpus import Corpus
from steer.errors import SteerError
from steer.runs.store import Run
from steer.serving.experts import Served
from steer.serving.server import load
from steer.serving.settings import ServeSettings
from tests import tiny
from tests.browser import needs_axe, needs_browser, violations, visit, wait_until
from tests.serving.conftest import Running, running, spec
from tests.serving.test_shapes import REAL, adapted

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


@needs_axe
@pytest.mark.parametrize(("screen", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing(browser: Any, server: Running, screen: str, scheme: str) -> None:
    page = visit(browser, server.address, SCREENS[screen], scheme)
    write(page, **{"dial-gamma": "1", "dial-alpha": "0.3"})
    assert violations(page) == []
    page.locator("#guided button", has_text="See").first.click()
    assert violations(page) == []
    open_texts(page)
    page.locator("#real input").first.check()
    page.click("#send-away")
    wait_until(page, "document.querySelectorAll('#beside .pair').length === 2")
    for part in ("texts", "judge", "take"):
        page.click(f"#tab-{part}")
        assert violations(page) == []
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
    assert opened.locator("#strip [aria-selected=true]").get_attribute("id") == "strip-2"
    heads = opened.locator("#streams th").all_inner_texts()
    assert heads == ["token", "expert", "base", "negative", "final"]
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


def open_texts(page: Any) -> None:
    page.click("#tab-texts")
    wait_until(page, "!document.querySelector('#map').closest('figure').hidden")


def test_real_texts_are_sent_to_away_and_towards(opened: Any) -> None:
    write(opened)
    open_texts(opened)
    opened.fill("#search", "why comet shine")
    assert opened.inner_text("#found") == "4 of 200"
    boxes = opened.locator("#real input")
    boxes.nth(0).focus()
    opened.keyboard.press("Space")
    assert opened.inner_text("#chosen-count") == "1 chosen"
    opened.click("#send-away")
    opened.click("#choose-none")
    boxes.nth(1).check()
    opened.click("#send-towards")
    assert opened.locator("#moved h2").all_inner_texts() == [
        "Away from 1\nClear",
        "Towards 1\nClear",
    ]
    assert opened.input_value("#dial-rho") == "0.2"
    opened.click("#tab-take")
    request = opened.inner_text("#as-request")
    assert '"away": [\n    "real:' in request and '"towards": [\n    "real:' in request
    command = opened.inner_text("#as-command")
    assert (
        command.startswith("steer generate tiny --real DATA --out run") and "--rho 0.2" in command
    )
    opened.click("#tab-write")
    opened.click("#reads summary")
    wait_until(opened, "document.querySelectorAll('#reading .stream').length === 4")
    write(opened)


@pytest.mark.parametrize("shape", ["line", "box"])
@pytest.mark.parametrize("screen", SCREENS)
def test_what_is_drawn_on_the_map_is_chosen_everywhere(
    browser: Any, server: Running, screen: str, shape: str
) -> None:
    page = visit(browser, server.address, SCREENS[screen])
    write(page)
    open_texts(page)
    page.select_option("#draw", shape)
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    left, top, right, bottom = (box["x"], box["y"], box["x"] + box["width"], box["y"] + 2000)
    bottom = box["y"] + box["height"]
    around = [(left, top), (right, top), (right, bottom), (left, bottom)]
    ends = around if shape == "line" else around[::2]
    page.mouse.move(ends[0][0] + 1, ends[0][1] + 1)
    page.mouse.down()
    for x, y in ends[1:]:
        page.mouse.move(x - 1, y - 1, steps=3)
    page.mouse.up()
    # All real texts, and the four that were written.
    assert page.inner_text("#chosen-count") == "204 chosen"
    assert page.locator("#real input:checked").count() == 100
    page.click("#send-away")
    assert page.inner_text("#sent").startswith("24 sent to “away”, of 204")
    page.select_option("#kind", "chosen")
    assert page.inner_text("#found") == "204 of 204"
    page.click("#choose-none")
    assert page.inner_text("#found") == "0 of 0"
    assert page.problems == []
    page.close()


def test_a_text_stands_beside_the_real_one_nearest_to_it(opened: Any) -> None:
    write(opened)
    open_texts(opened)
    opened.fill("#search", "Why does a comet grow dim after sunset?")
    opened.locator("#real input").first.check()
    wait_until(opened, "document.querySelectorAll('#beside .pair').length === 2")
    assert opened.locator("#beside mark").count() >= 2
    opened.click("#tab-judge")
    wait_until(opened, "document.querySelectorAll('#judged-beside .pair').length === 1")
    assert "Nearest real text, cosine" in opened.inner_text("#judged-beside")


def test_a_page_without_an_embedder_has_its_list(
    browser: Any, served: list[Served], monkeypatch: Any
) -> None:
    def fails(name: str | None) -> None:
        raise SteerError("no /such/folder")

    monkeypatch.setattr("steer.serving.plane.load_embedder", fails)
    with running(served, ServeSettings()) as server:
        page = visit(browser, server.address, SCREENS["desktop"])
        write(page)
        page.click("#tab-texts")
        wait_until(page, "document.getElementById('map-says').textContent.startsWith('No map')")
        assert "/such" not in page.inner_text("#map-says")
        page.locator("#real input").first.check()
        page.click("#send-away")
        assert "Away from 1" in page.inner_text("#moved")
        page.close()


def test_kept_texts_join_the_pool(opened: Any) -> None:
    write(opened)
    opened.locator("#guided button", has_text="Keep").first.click()
    text = opened.locator("#guided p").first.inner_text().strip()
    opened.click("#tab-take")
    assert '"kept": [' in opened.inner_text("#as-request")
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    assert escaped in opened.inner_text("#as-request")
    opened.click("#tab-judge")
    opened.uncheck("#join")
    assert '"kept"' not in (opened.text_content("#as-request") or "")


def test_the_sliders_move_what_was_written(opened: Any) -> None:
    write(opened, **{"dial-gamma": "1", "dial-eta": "0.5", "dial-alpha": "0"})
    opened.locator("#guided button", has_text="See").first.click()
    shares = (
        "[...document.querySelectorAll('#candidates tr')].map((row) => [1, row.cells.length - 2]"
        ".map((i) => parseFloat(row.cells[i].textContent)))"
    )
    before = opened.evaluate(shares)
    opened.check("#live")
    # The same settings, and shares among the candidates.
    after = opened.evaluate(shares)
    assert _even([(was[1], now[1]) for was, now in zip(before, after, strict=True)])
    for name in ("gamma", "eta"):
        opened.fill(f"#dial-{name}", "0")
    assert _even(opened.evaluate(shares)) and not _even(before)
    opened.uncheck("#live")
    assert opened.evaluate(shares) == before


def _even(pairs: Any) -> bool:
    """Whether the second of each pair is in one proportion to the first, as far as is shown."""
    total = sum(b for _, b in pairs) / sum(a for a, _ in pairs)
    return all(b == pytest.approx(total * a, rel=0.02, abs=0.06 * (1 + total)) for a, b in pairs)


def test_texts_judged_by_key_become_a_run(
    opened: Any, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of random weights writes control characters, which are not saved.
    monkeypatch.setattr("steer.serving.recent.find_control", lambda text: None)
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
        assert page.inner_text("#real label") == evil
        assert all("401" in each for each in page.problems)
        page.close()


SEEN = """
[...document.querySelectorAll('#guided p, #plain p, #strip [role=option], #candidates button,'
  + '#real span:not(.tag), #beside p, #judged, #judged-beside p, #moved li, #reading li')]
  .map((each) => each.textContent).join('\\n')
"""


def test_texts_that_may_insult_are_masked_until_somebody_unmasks_them(
    browser: Any, tiny_label_expert: Path
) -> None:
    expert = adapted(tiny_label_expert, "insults", task_name="comments")
    real = Corpus(texts=tiny.TEXTS, labels=tiny.LABELS, source="tiny")
    with running(load([expert], real, ServeSettings(), spec), ServeSettings()) as server:
        page = visit(browser, server.address, SCREENS["desktop"])
        write(page, **{"dial-gamma": "1"})
        page.locator("#guided button", has_text="Keep").first.click()
        page.locator("#guided button", has_text="Away").first.click()
        page.click("#reads summary")
        wait_until(page, "document.querySelectorAll('#reading li').length > 0")
        page.locator("#guided button", has_text="See").first.click()
        open_texts(page)
        page.locator("#real input").first.check()
        wait_until(page, "document.querySelectorAll('#beside .pair').length === 2")
        page.click("#tab-judge")
        wait_until(page, "document.querySelectorAll('#judged-beside .pair').length === 1")
        masked = page.evaluate(SEEN)
        words = [each for each in re.findall(r"[^\W_]{2,}", masked) if each != "end"]
        assert "W·· d··· t·· m···" in masked and words == []
        assert "·" in page.text_content("#as-request")
        page.route("**/steer/**", lambda route: None)  # no answer: a text is masked without one
        read = page.locator("#reading li").all_inner_texts()
        page.click("#unmask")
        whole = page.evaluate(SEEN)
        assert "Why does the moon" in whole
        assert page.locator("#reading li").all_inner_texts() != read
        assert len(whole) == len(masked) and "·" not in page.text_content("#as-request")
        page.click("#unmask")
        assert page.evaluate(SEEN) == masked
        assert page.problems == []
        page.close()


@needs_axe
def test_axe_finds_nothing_on_a_masked_page(browser: Any, served: list[Served]) -> None:
    with running(served, ServeSettings(mask=True)) as server:
        page = visit(browser, server.address, SCREENS["phone"], "dark")
        write(page)
        assert page.is_visible("#masked") and "·" in page.inner_text("#guided")
        assert violations(page) == []
        page.close()


def test_what_a_text_answers_stands_above_it(browser: Any, tiny_expert: Path) -> None:
    served = load([adapted(tiny_expert, "answers", prompt="{chat}")], REAL, ServeSettings(), spec)
    with running(served, ServeSettings()) as server:
        page = visit(browser, server.address, SCREENS["desktop"])
        write(page, **{"dial-eta": "0"})
        asked = page.locator("#guided .asks").all_inner_texts()
        assert asked == page.locator("#plain .asks").all_inner_texts()
        assert len(asked) == 2 and all(each.startswith("Question ") for each in asked)
        page.click("#tab-judge")
        assert page.inner_text("#judged .asks") == asked[0]
        assert page.problems == []
        page.close()


def test_what_a_text_answers_is_masked_too(browser: Any, tiny_expert: Path) -> None:
    served = load(
        [adapted(tiny_expert, "masked answers", prompt="{chat}")], REAL, ServeSettings(), spec
    )
    with running(served, ServeSettings(mask=True)) as server:
        page = visit(browser, server.address, SCREENS["desktop"])
        page.click("#reads summary")
        wait_until(page, "document.querySelectorAll('#reading .muted').length > 0")
        assert "Question" not in page.text_content("#reading")
        page.click("#unmask")
        assert "Question" in page.text_content("#reading")
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

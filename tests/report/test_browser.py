"""The report in a real browser: needs the package playwright and an installed Chromium."""

from pathlib import Path
from typing import Any

import pytest

from steer.report.report import write_report
from steer.runs.store import Run
from tests.browser import needs_axe, needs_browser, violations, visit, wait_until
from tests.report.test_report import METHODS, REAL, StubEmbedder, make, make_chats
from tests.report.test_tracing import made  # noqa: F401, a fixture
from tests.report.test_tracing import write as write_traced

pytestmark = needs_browser
SCREENS = {"phone": (390, 844), "desktop": (1440, 900)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
        write_report(make(folder / "out", grid=True), REAL, folder / "report.html")
    return folder / "report.html"


def open_page(browser: Any, report: Path, screen: str = "desktop", scheme: str = "light") -> Any:
    """The page once all is drawn."""
    page = visit(browser, report.as_uri(), SCREENS[screen], scheme)
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_it_opens_whole_and_quiet(browser: Any, report: Path, screen: str, scheme: str) -> None:
    page = open_page(browser, report, screen, scheme)
    said = [*page.problems, *page.asked]
    outside = [each for each in said if not each.startswith(("data:", "blob:"))]
    assert outside == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen][0]
    plots = page.query_selector_all(".plot")
    assert len(plots) == 2 + 5 + 1 + len(METHODS)
    for plot in plots:
        assert plot.query_selector(".main-svg")
        box, card = plot.bounding_box(), plot.query_selector("xpath=..").bounding_box()
        assert card["x"] <= box["x"] and box["x"] + box["width"] <= card["x"] + card["width"]
    drawn = "document.querySelectorAll('[data-kind=map] .point').length"
    assert page.evaluate(drawn) == len(REAL.texts) + 20 * len(METHODS)
    page.close()


def test_figures_follow_the_colour_scheme(browser: Any, report: Path) -> None:
    page = open_page(browser, report)
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    surface = "getComputedStyle(document.querySelector('.card')).backgroundColor"
    light = page.evaluate(ink), page.evaluate(surface)
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"{ink} !== '{light[0]}'")
    assert page.evaluate(surface) != light[1]
    page.emulate_media(media="print")
    wait_until(page, f"{ink} === '{light[0]}'")
    page.close()


def test_a_table_sorts_by_keyboard(browser: Any, report: Path) -> None:
    page = open_page(browser, report)
    table = page.locator("table[data-group=fidelity]")
    names = table.locator("tbody th")
    assert names.all_inner_texts() == [*METHODS]
    table.locator("thead button").focus()
    page.keyboard.press("Enter")
    assert names.all_inner_texts() == ["steer", "gamma", "plain <b>"]
    assert table.locator("thead th").last.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert names.all_inner_texts() == ["plain <b>", "gamma", "steer"]
    assert table.locator("tfoot th").all_inner_texts() == ["real texts"]
    page.close()


def test_methods_can_be_chosen(browser: Any, report: Path) -> None:
    page = open_page(browser, report, "phone")
    before = page.locator("#records li").all_inner_texts()
    assert len(before) == 20
    page.select_option("#records-method", "plain <b>")
    assert page.locator("#records li").all_inner_texts() != before
    page.select_option("#pairs-method", "gamma")
    assert set(page.locator("#pairs strong").all_inner_texts()) == {"gamma"}
    assert page.locator("#pairs .both").count()
    page.select_option("#map-method", "gamma")
    shown = "document.querySelectorAll('[data-kind=map] .point').length"
    assert page.evaluate(shown) == len(REAL.texts) + 20
    page.close()


def test_a_question_is_above_its_answer(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
    run, real = make_chats(tmp_path / "run")
    write_report(run, real, tmp_path / "report.html")
    page = open_page(browser, tmp_path / "report.html")
    records = {record.id: record for record in Run.open(run).records}
    for item in page.locator("#records li").all():
        record = records[item.locator(".tag").last.text_content()]
        asked = item.locator(".asked").text_content()
        assert asked == record.turns[-1][1].strip("\n")
        assert item.text_content() == record.id + asked + record.text
    assert not page.problems
    page.close()


def test_a_point_shows_its_text(browser: Any, report: Path) -> None:
    page = open_page(browser, report)
    page.select_option("#map-method", "gamma")
    page.locator("#map").scroll_into_view_if_needed()
    place = page.locator("[data-kind=map] .point").last.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    wait_until(page, "!document.getElementById('map-text').innerText.includes('tap')")
    text = page.locator("#map-text").inner_text().split("\n")[-1]
    data = "JSON.parse(document.getElementById('data').textContent)"
    assert any(known in text for known in page.evaluate(f"{data}.texts"))
    page.close()


def test_everything_is_reached_by_keyboard(browser: Any, report: Path) -> None:
    page = open_page(browser, report)
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"skip", "map-method", "pairs-method", "records-method", "scroll"} <= reached
    page.close()


@needs_axe
def test_the_sliders_weigh_the_streams_anew(
    browser: Any,
    made: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steer.report.report.load_embedder", lambda name, cache: StubEmbedder())
    monkeypatch.setattr("steer.report.features.FEW", 10_000)
    data = write_traced(made, tmp_path / "report.html", traces=2)
    page = visit(browser, (tmp_path / "report.html").as_uri(), (390, 844))
    wait_until(page, "'ready' in document.documentElement.dataset")
    tokens = page.locator("#strip [role=option]")
    assert tokens.count() == len(data["traces"][0]["tokens"])
    page.focus("#strip")
    page.keyboard.press("ArrowRight")
    expert, final = "td:nth-child(2)", "td:nth-last-child(2)"
    before = page.locator(f"#candidates {final}").all_inner_texts()
    for name in ("gamma", "eta", "alpha"):
        page.fill(f"#dial-{name}", "0")
    # Without guidance the candidates are as likely as under the expert, in proportion.
    cells = [page.locator(f"#candidates {part}").all_inner_texts() for part in (expert, final)]
    shares = [[float(cell.removesuffix(" %")) for cell in column] for column in cells]
    total = sum(shares[1]) / sum(shares[0])
    expected = [total * each for each in shares[0]]
    assert shares[1] == pytest.approx(expected, rel=0.02, abs=0.06 * (1 + total))
    page.select_option("#trace", "1")
    page.select_option("#trace", "0")
    page.focus("#strip")
    page.keyboard.press("ArrowRight")
    assert page.locator(f"#candidates {final}").all_inner_texts() == before
    assert page.is_disabled("#dial-rho")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.problems == [] and violations(page) == []
    page.close()

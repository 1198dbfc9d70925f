"""Pictures of the server's page: `python -m benchmarks.page EXPERT --real DATA --out FOLDER`.

Writes with the expert in a real Chromium, and keeps what docs/serve.md shows (in docs/pictures).
With `--all` every part is kept instead, on a desktop and a phone, in the light and the dark.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import run
from benchmarks.serving import serving
from steer.data.corpus import load_corpus
from steer.engines.choice import EngineSpec
from steer.models.expert import Expert
from steer.serving.server import load
from steer.serving.settings import ServeSettings

DESKTOP, PHONE = (1280, 900), (390, 844)
PARTS = ("write", "see", "texts", "judge", "take")
ASKED = {"dial-gamma": "0.6", "dial-eta": "0.4", "dial-alpha": "0.05", "most": "32"}
_SET = """([id, value]) => {
    const it = document.getElementById(id);
    it.value = value;
    it.dispatchEvent(new Event("input"));
}"""
_ENDED = "document.querySelectorAll('.written [data-id]').length"
# Corners of what is drawn on the map, as shares of its width and height.
_AWAY, _TOWARDS = ((0.55, 0.2), (0.75, 0.45)), ((0.2, 0.5), (0.4, 0.75))


def main(arguments: Sequence[str] | None = None) -> int:
    """Takes the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    parser.add_argument("expert", type=Path, help="what steer fit made")
    parser.add_argument("--real", required=True, help="the real texts")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--all", action="store_true", help="every part, on every screen")
    parser.add_argument("--mask", action="store_true", help="with the texts masked")
    options = parser.parse_args(arguments)
    return run(lambda: _run(options), Console(stderr=True))


def _run(options: argparse.Namespace) -> None:
    settings = ServeSettings(mask=options.mask or None)
    expert, real = Expert.load(options.expert), load_corpus(options.real)
    (served,) = load([expert], real, settings, lambda each: EngineSpec(each.base, each.path))
    options.out.mkdir(parents=True, exist_ok=True)
    with serving(served, settings) as address:
        if options.all:
            _keep_all(address, options.out)
            return
        with _page(address, DESKTOP, "light") as page:
            _keep(options.out / "serve.png", page.screenshot())
            _send(page)
            _keep(options.out / "serve-map.png", _upper(page))


def _keep_all(address: str, out: Path) -> None:
    for size, screen in ((DESKTOP, "desktop"), (PHONE, "phone")):
        for scheme in ("light", "dark"):
            with _page(address, size, scheme) as page:
                _send(page)
                for part in PARTS:
                    page.click(f"#tab-{part}")
                    name = f"{screen}-{scheme}-{part}.png"
                    _keep(out / name, page.screenshot(full_page=True))


@contextmanager
def _page(address: str, size: tuple[int, int], scheme: str) -> Iterator[Any]:
    """The page with texts, at the second token of one."""
    from tests.browser import launched, visit

    with launched() as browser:
        page = visit(browser, address, size, scheme)
        _wait(page, "'ready' in document.documentElement.dataset")
        for name, value in ASKED.items():
            page.evaluate(_SET, [name, value])
        page.click("#go")
        _wait(page, f"{_ENDED} === 6")
        page.locator("#guided button", has_text="Keep").first.click()
        page.locator("#guided button", has_text="See").first.click()
        page.locator("#strip [role=option]").nth(1).click()
        page.mouse.move(0, 0)
        yield page


def _send(page: Any) -> None:
    """Sends real texts away and towards, by the map."""
    page.click("#tab-texts")
    _wait(page, "!document.querySelector('#map').closest('figure').hidden")
    for where, corners in (("away", _AWAY), ("towards", _TOWARDS)):
        _choose(page, corners)
        page.click(f"#send-{where}")
    _wait(page, "document.querySelectorAll('#beside .pair').length === 2")
    page.mouse.move(0, 0)


def _choose(page: Any, corners: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Draws a rectangle on the map."""
    page.select_option("#draw", "box")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    (x, y), (right, bottom) = (
        (box["x"] + across * box["width"], box["y"] + down * box["height"])
        for across, down in corners
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(right, bottom, steps=4)
    page.mouse.up()


def _upper(page: Any) -> bytes:
    """The upper part of what stands beside the settings."""
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#main").bounding_box()
    clip = {"x": box["x"] - 16, "y": box["y"], "width": box["width"] + 32, "height": 760}
    return bytes(page.screenshot(clip=clip, full_page=True))


def _keep(path: Path, png: bytes) -> None:
    """Keeps a picture in 256 colours."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"written: {path}", flush=True)


def _wait(page: Any, condition: str) -> None:
    from tests.browser import wait_until

    wait_until(page, condition)


if __name__ == "__main__":
    sys.exit(main())

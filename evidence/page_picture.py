"""A picture of the page to draw on: ``python -m evidence.page_picture`` draws a digit in a browser and saves it.

It needs Chromium or Chrome on the PATH: Playwright controls the browser but comes without one.
"""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from helpers.results import RESULTS
from helpers.runtime.files import atomic_write

PAGE, PICTURE = RESULTS / "page.html", RESULTS / "page.png"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0  # as in a container, where the sandbox does not work
FIVE = [(190, 50), (108, 54), (102, 122), (140, 108), (178, 126), (190, 166), (164, 208), (124, 218), (92, 200)]
NUM_COLOURS = 256  # enough for this picture, in a third of the bytes


def find_browser() -> str | None:
    """Return the path of a browser that can open the page, if there is one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    return None


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a headless browser that contacts no server on its own, and close it after the block."""
    arguments = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    arguments.append("--no-first-run")
    if AS_ROOT:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=arguments)
        yield browser
        browser.close()


def draw(page: Page, points: list[tuple[float, float]], size: float = 280) -> None:
    """Draw a stroke with the mouse through these points ``(x, y)`` of a pad of ``size``."""
    pad = page.locator("#pad").bounding_box()
    places = [(pad["x"] + x * pad["width"] / size, pad["y"] + y * pad["height"] / size) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def main() -> None:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 740})
        page.goto(PAGE.as_uri())
        draw(page, FIVE)
        page.mouse.move(0, 0)
        page.wait_for_timeout(100)
        milliseconds = float(page.evaluate("document.body.dataset.milliseconds"))
        picture = (
            Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(NUM_COLOURS, Image.Quantize.MAXCOVERAGE)
        )
    png = io.BytesIO()
    picture.save(png, format="png", optimize=True)
    atomic_write(PICTURE, png.getvalue())
    print(f"written to {PICTURE}: {len(png.getvalue()) / 1000:.0f} kB; the last answer took {milliseconds:.1f} ms")


if __name__ == "__main__":
    if find_browser() is None:
        raise SystemExit(f"error: there is no browser on the PATH: install one of {', '.join(BROWSERS)}")
    main()

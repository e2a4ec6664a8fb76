"""A person at Airflow's pages: headless Chromium, driven by Playwright, that reaches the loopback only."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import FloatRect, Page, Route, ViewportSize, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
)
# Airflow answers late on a busy machine.
_MILLISECONDS = 45_000
_COLOURS = 96
# A picture in the documentation is as wide as a page of text.
_VIEWPORT: ViewportSize = {"width": 1280, "height": 880}


class Browser:
    """
    A browser with one page.

    :param page: Playwright's page.
    :param pictures: the folder of screenshots.
    """

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page = page
        self.pictures = pictures
        self.foreign: list[str] = []
        page.set_default_timeout(_MILLISECONDS)
        expect.set_options(timeout=_MILLISECONDS)
        page.route("**/*", self._stay_on_loopback)

    def _stay_on_loopback(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https") and address.hostname not in ("127.0.0.1", "localhost"):
            self.foreign.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    def picture(self, name: str, *, height: int = _VIEWPORT["height"]) -> None:
        """
        Take a screenshot of what the page shows.

        :param name: the file's name without its ending. It must say what is to be seen.
        :param height: pixels from the top of the page.
        """
        self.page.mouse.move(0, 0)  # no tooltip covers anything
        self.page.wait_for_timeout(400)  # animations end
        self.picture_of(self.page, name, height=height)

    def picture_of(self, page: Page, name: str, *, height: int = _VIEWPORT["height"]) -> None:
        """
        Take a screenshot of another page, such as one that a link has opened.

        :param page: the page.
        :param name: the file's name without its ending.
        :param height: pixels from the top of the page.
        """
        clip: FloatRect = {"x": 0, "y": 0, "width": _VIEWPORT["width"], "height": height}
        picture = Image.open(io.BytesIO(page.screenshot(clip=clip)))
        # A palette makes the file a third as large.
        picture.convert("RGB").quantize(_COLOURS).save(self.pictures / f"{name}.png", optimize=True)


@contextmanager
def browser(pictures: Path) -> Iterator[Browser]:
    """
    Start a browser, and stop it at the end.

    :param pictures: the folder of screenshots, or SCREENSHOTS in the environment.
    """
    folder = Path(os.environ.get("SCREENSHOTS") or pictures)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS)
        try:
            # The clock of the pictures is that of the runs in them.
            context = chromium.new_context(viewport=_VIEWPORT, timezone_id="UTC", locale="en-GB")
            yield Browser(context.new_page(), folder)
        finally:
            chromium.close()

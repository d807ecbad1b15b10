"""The real page in Chromium, over a server of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import BenchmarkError
from benchmarks.startup import running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 60_000
WIDTH, HEIGHT = 1280, 860


@dataclass(frozen=True)
class Driven:
    """A browser's page that was not opened yet, and the server to open it on.

    Attributes:
        address: Of the server.
        server: Its process id.
    """

    browser: Browser
    page: Page
    address: str
    server: int


@contextmanager
def driven_page(outputs: Path) -> Generator[Driven, None, None]:
    """A server that saves to `outputs`, and a page for it.

    Raises:
        BenchmarkError: Playwright is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise BenchmarkError(
            "The development packages are needed to measure the page: launch.py test installs them."
        ) from None
    with running_server(outputs) as (address, server), sync_playwright() as playwright:
        path = os.environ.get("EASEL_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE_MS)
        yield Driven(browser, page, address, server)
        browser.close()

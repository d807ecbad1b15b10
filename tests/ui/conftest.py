"""A browser, and the real page over a generator that draws gradients."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Page, expect, sync_playwright

from tests.ui.browsing import ARGUMENTS, PATIENCE, new_context, opened
from tests.ui.served import Served, copied, start


@pytest.fixture(scope="session")
def chromium() -> Generator[Browser, None, None]:
    path = os.environ.get("EASEL_CHROMIUM") or shutil.which("chromium")
    assert path, "Chromium is needed: install it or name it in EASEL_CHROMIUM."
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def kept_context(chromium: Browser) -> Generator[BrowserContext, None, None]:
    context = new_context(chromium, viewport={"width": 1280, "height": 860}, locale="en-GB")
    yield context
    context.close()


@pytest.fixture
def context(kept_context: BrowserContext) -> Generator[BrowserContext, None, None]:
    """A browser that knows nobody, but has kept the files that are the same for all."""
    origins: set[str] = set()

    def note(frame: Frame) -> None:
        address = urlsplit(frame.url)
        origins.add(f"{address.scheme}://{address.netloc}")

    def watch(page: Page) -> None:
        page.on("framenavigated", note)

    kept_context.on("page", watch)
    yield kept_context
    kept_context.remove_listener("page", watch)
    for page in kept_context.pages:
        page.close()
    kept_context.clear_cookies()
    kept_context.clear_permissions()
    # Only now is nobody left who could write something down while the tab is closed.
    page = kept_context.new_page()
    session: Any = kept_context.new_cdp_session(page)
    for origin in origins:
        session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    page.close()


@pytest.fixture(scope="session")
def fake_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `fake`: pictures, and under it those of models and LoRAs."""
    return tmp_path_factory.mktemp("fake")


@pytest.fixture(scope="session")
def fake(fake_folder: Path) -> Generator[Served, None, None]:
    """The real page over a generator that draws gradients, 0.05 s a step."""
    arguments = ("tests.ui.fake_server", str(fake_folder), "0", "0.05")
    served = copied(arguments, log=fake_folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real") / "outputs"


@pytest.fixture(scope="module")
def real(outputs: Path) -> Generator[Served, None, None]:
    """The real server with the embedded model, which ends in time and without a complaint."""
    arguments = ("webui", "serve", "--port", "0", "--no-browser", "--outputs", str(outputs))
    served = start(arguments, log=outputs.parent / "stderr.txt")
    served.wait_for()
    yield served
    served.end()
    assert served.process.returncode == 0
    assert (outputs.parent / "stderr.txt").read_text() == ""


@pytest.fixture
def page(fake: Served, context: BrowserContext) -> Page:
    return opened(context.new_page(), fake)

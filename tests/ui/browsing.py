"""What a person does on the page, and what they then see."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.ui.served import ROOT, Served
from webui.request import GenerationRequest

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 120_000
"""Milliseconds a slow machine is given; a quick one does not wait."""

_SAVED = re.compile(r"^pictures/[0-9a-f]{64}\.png$")


def new_context(chromium: Browser, **options: Any) -> BrowserContext:
    """Somebody else's browser; `options` are Playwright's."""
    context = chromium.new_context(**options)
    context.set_default_timeout(PATIENCE)
    return context


def opened(page: Page, served: Served, where: str = "") -> Page:
    """The page once its script has drawn and one of the two buttons is there to be pressed."""
    page.goto(served.address + where)
    page.wait_for_selector("body[data-job]", state="attached")
    return page


def module(page: Page, name: str) -> str:
    """Where the page has a module of its script from, which exists once for each address."""
    style = page.locator("link[href$='/base.css']")
    return style.evaluate("(link, name) => new URL(name, link.href).href", name)


def generate(page: Page) -> None:
    """Presses Generate and waits for the end."""
    ended = page.locator("body").get_attribute("data-ended")
    page.locator("#generate").click()
    page.wait_for_selector(f"body[data-job=idle]:not([data-ended='{ended}'])", state="attached")


def fill(page: Page, field: str, value: str) -> None:
    """Types a value into a field's box."""
    page.locator(f"#input-{field}").fill(value)


def answered_otherwise(page: Page, path: str, change: Callable[[Any], None]) -> None:
    """Has the page get another answer of one of our routes from now on."""

    def answer(route: Route) -> None:
        data = route.fetch().json()
        change(data)
        route.fulfill(json=data)

    page.route(re.compile(f"/{path}(\\?|$)"), answer)


def shown(page: Page) -> bytes:
    """The bytes behind the large picture."""
    expect(page.locator(".large img")).to_have_attribute("src", _SAVED)
    source = page.locator(".large img").get_attribute("src")
    assert source is not None
    address = re.sub(r"[?#].*", "", page.url).rstrip("/")
    return page.request.get(f"{address}/{source}").body()


def tiles(page: Page) -> Locator:
    """The pictures of the session."""
    return page.locator(".strip button")


def request_in(png: bytes) -> GenerationRequest:
    """The request that a picture carries."""
    with Image.open(io.BytesIO(png)) as picture:
        return GenerationRequest.model_validate(json.loads(picture.info["easel"])["request"])


def keep(page: Page, name: str) -> None:
    """Keeps a screenshot for the README when that is asked for."""
    if os.environ.get("EASEL_SCREENSHOTS"):
        page.wait_for_timeout(600)
        page.screenshot(path=ROOT / "docs" / f"{name}.png")

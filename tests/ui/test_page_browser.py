from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.ui.served import ROOT, Served, start
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROMPT = "a person in a red shirt on a beach at sunset"
PATIENCE = 300_000
"""Milliseconds a slow machine is given; a quick one does not wait."""


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser, None, None]:
    path = os.environ.get("EASEL_CHROMIUM") or shutil.which("chromium")
    assert path, "Chromium is needed: install it or name it in EASEL_CHROMIUM."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Generator[BrowserContext, None, None]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    """The real page over a generator that draws gradients, 0.05 s a step."""
    folder = tmp_path_factory.mktemp("fake")
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.05")
    served = start(arguments, log=folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture
def page(fake: Served, context: BrowserContext) -> Page:
    page = context.new_page()
    return opened(page, fake)


def opened(page: Page, served: Served) -> Page:
    page.goto(served.address)
    # The script of the page has drawn, and one of the two buttons is there to be pressed.
    page.wait_for_selector("body[data-job]", state="attached")
    expect(page.locator("#generate:visible, #stop:visible")).to_have_count(1)
    return page


def generate(page: Page) -> None:
    page.locator("#generate").click()
    page.wait_for_selector("body[data-job=idle]")


def shown(page: Page) -> bytes:
    """The bytes behind the large picture."""
    expect(page.locator(".large img")).to_have_attribute("src", _SAVED)
    source = page.locator(".large img").get_attribute("src")
    assert source is not None
    return page.request.get(f"{page.url.rstrip('/')}/{source}").body()


def tiles(page: Page) -> Locator:
    return page.locator(".strip button")


_SAVED = re.compile(r"^pictures/[0-9a-f]{64}\.png$")


def request_in(png: bytes) -> GenerationRequest:
    with Image.open(io.BytesIO(png)) as picture:
        return GenerationRequest.model_validate(json.loads(picture.info["easel"])["request"])


def test_a_picture_is_made_by_clicking_on_the_real_server(
    context: BrowserContext, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    arguments = ("webui", "serve", "--port", "0", "--no-browser", "--outputs", str(outputs))
    served = start(arguments, log=tmp_path / "stderr.txt")
    try:
        # Asked before the browser is, which can take longer to open a page than Gradio to load.
        with urllib.request.urlopen(served.address) as answer:
            assert b"<title>Easel is starting</title>" in answer.read()
        page = context.new_page()
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url.partition("://")[2]))
        page.goto(served.address)
        page.wait_for_selector("body[data-job=idle]")
        # Clicked at once: the job waits for the engine, which is still loading.
        page.locator("#field-prompt textarea").fill(PROMPT)
        page.locator("#field-seed input").fill("7")
        page.locator("#generate").click()
        expect(page.locator(".headline")).to_contain_text("Done in")

        picture = shown(page)
        (file,) = outputs.rglob("*.png")
        assert hashlib.sha256(picture).digest() == hashlib.sha256(file.read_bytes()).digest()
        made = request_in(picture)
        assert (made.prompt, made.seed, made.steps) == (PROMPT, 7, 20)
        with Image.open(file) as opened_file:
            assert max(ImageStat.Stat(opened_file.convert("RGB")).stddev) > 20
        expect(page.locator(".stages")).to_contain_text("20 steps")
        expect(page.locator("#engine")).to_have_attribute("data-phase", "ready")

        page.wait_for_timeout(500)
        page.screenshot(path=tmp_path / "screenshot.png", full_page=True)
        if os.environ.get("EASEL_SCREENSHOTS"):
            (ROOT / "docs").mkdir(exist_ok=True)
            shutil.copy(tmp_path / "screenshot.png", ROOT / "docs" / "screenshot.png")
        own = served.address.partition("://")[2]
        assert {url.partition("/")[0] for url in asked if not url.startswith("image/")} == {own}
        assert served.end() < 5
        assert served.process.returncode == 0
    finally:
        served.kill()


def test_untouched_widgets_ask_for_the_default_request(page: Page) -> None:
    generate(page)
    assert request_in(shown(page)) == GenerationRequest()


def test_values_reach_the_request(page: Page) -> None:
    page.locator("#field-prompt textarea").fill("a hill")
    page.locator("#field-width input").fill("320")
    page.locator("#field-steps input[type=number]").fill("3")
    page.locator("#field-seed input").fill("9007199254740991")
    page.locator("#field-sampler input").click()
    page.get_by_role("option", name="Heun", exact=True).click()
    page.get_by_text("More settings").click()
    # A field that has just been mounted may still be given its first value, faster than a person
    # types but not faster than this test.
    page.wait_for_timeout(500)
    page.locator("#field-negative_prompt textarea").fill("fog")
    generate(page)
    made = request_in(shown(page))
    wanted = GenerationRequest(
        prompt="a hill",
        width=320,
        steps=3,
        seed=2**53 - 1,
        sampler="Heun",
        negative_prompt="fog",
    )
    assert made == wanted
    expect(page.locator(".facts")).to_have_text("Seed 9007199254740991 · 320 \u00d7 256")


def test_the_pictures_of_the_session_are_there_newest_first_and_can_be_chosen(page: Page) -> None:
    page.locator("#field-steps input[type=number]").fill("1")
    for seed in ("11", "12"):
        page.locator("#field-seed input").fill(seed)
        generate(page)
    expect(tiles(page)).to_have_count(2)
    expect(page.locator(".facts")).to_contain_text("Seed 12")
    tiles(page).nth(1).click()
    expect(page.locator(".facts")).to_contain_text("Seed 11")
    expect(tiles(page).nth(1)).to_have_attribute("aria-pressed", "true")
    page.locator(".large").click()
    expect(page.locator(".light img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".light img")).not_to_be_visible()
    tiles(page).nth(0).click()
    page.locator(".seed").click()
    expect(page.locator("#field-seed input")).to_have_value("12")


def test_stop_and_escape_end_a_long_job(page: Page) -> None:
    page.locator("#field-steps input[type=number]").fill("150")
    page.get_by_text("More settings").click()
    page.locator("#field-count input[type=number]").fill("100")
    for stop in (lambda: page.locator("#stop").click(), lambda: page.keyboard.press("Escape")):
        page.keyboard.press("Control+Enter")
        expect(page.locator(".headline")).to_contain_text("of 150 · 0.05 s per step")
        expect(page.locator(".large.live")).to_be_visible()
        began = time.perf_counter()
        stop()
        expect(page.locator(".headline")).to_contain_text("Stopped after")
        assert time.perf_counter() - began < 60, "100 batches take ten minutes"
        page.wait_for_selector("body[data-job=idle]")


def test_a_bad_value_is_one_sentence_and_nothing_is_lost(page: Page) -> None:
    page.locator("#field-prompt textarea").fill(PROMPT)
    page.locator("#field-width input").fill("60")
    for _ in range(2):
        generate(page)
        expect(page.get_by_role("alert").first).to_have_text(
            "width is 60: it must be a multiple of 8, such as 64."
        )
    expect(page.locator("#field-width input")).to_have_attribute("aria-invalid", "")
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.locator("#field-prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#field-width input")).to_have_value("60")
    page.locator("#field-width input").fill("64")
    generate(page)
    expect(page.locator("#problem")).to_have_text("")
    assert request_in(shown(page)).width == 64


def test_a_job_outlives_its_tab_and_is_found_again(
    page: Page, fake: Served, context: BrowserContext
) -> None:
    page.get_by_text("More settings").click()
    page.locator("#field-count input[type=number]").fill("100")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("Batch 1 of 100")
    page.close()
    again = opened(context.new_page(), fake)
    expect(tiles(again).nth(1)).to_be_visible()
    expect(again.locator(".headline")).to_contain_text("of 100")
    again.locator("#stop").click()
    expect(again.locator(".headline")).to_contain_text("Stopped after")


def test_another_browser_sees_none_of_it(page: Page, fake: Served, chromium: Browser) -> None:
    page.locator("#field-steps input[type=number]").fill("1")
    generate(page)
    source = page.locator(".large img").get_attribute("src")
    other = chromium.new_context()
    stranger = opened(other.new_page(), fake)
    expect(tiles(stranger)).to_have_count(0)
    assert stranger.request.get(f"{fake.address}/{source}").status == 404
    assert page.request.get(f"{fake.address}/{source}").status == 200
    other.close()


def test_a_prompt_is_text_and_never_code(page: Page) -> None:
    trap = "${document.title='broken'} {{constructor}} <img src=x onerror=\"document.title='b'\">"
    page.locator("#field-prompt textarea").fill(trap)
    page.locator("#field-steps input[type=number]").fill("1")
    generate(page)
    expect(page.locator(".large img")).to_have_attribute("alt", trap)
    assert page.title() == "Easel"
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(
    fake: Served, chromium: Browser, scheme: Any, tmp_path: Path
) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )
    page = opened(context.new_page(), fake)
    page.locator("#field-steps input[type=number]").fill("1")
    generate(page)
    page.get_by_text("More settings").click()
    expect(page.locator("#field-clip_skip")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.partition("(")[2].partition(",")[0])
    assert red < 60 if scheme == "dark" else red > 200
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    context.close()

"""The page on the real server with the embedded model, clicked through as a person would.

With EASEL_SCREENSHOTS set, what is seen on the way is kept in `docs/` for the README's tour.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.ui.browsing import (
    PATIENCE,
    fill,
    generate,
    keep,
    new_context,
    opened,
    request_in,
    shown,
    tiles,
)
from tests.ui.hostile import leftovers
from tests.ui.served import Served
from tests.ui.test_drop_browser import INFOTEXT, drop, foreign

pytestmark = pytest.mark.browser

PROMPT = "a person in a red shirt on a beach at sunset"
SCENES = (
    "a person in a blue shirt in a city at night",
    "a person in a green shirt in a park on a sunny day",
    "a person in a yellow shirt in the mountains at sunset",
    "a person in a purple shirt in the snow on a sunny day",
)


@pytest.fixture
def page(real: Served, context: BrowserContext) -> Page:
    return opened(context.new_page(), real)


def redness(png: bytes, folder: Path) -> float:
    """How much more red than blue there is, 0..255."""
    (folder / "picture.png").write_bytes(png)
    with Image.open(folder / "picture.png") as picture:
        red, _, blue = ImageStat.Stat(picture.convert("RGB")).mean
    return red - blue


def test_a_picture_is_made_as_asked_and_nothing_else_is_asked_for(
    real: Served, context: BrowserContext, outputs: Path
) -> None:
    page = context.new_page()
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url.partition("://")[2]))
    opened(page, real)
    fill(page, "prompt", PROMPT)
    fill(page, "seed", "7")
    generate(page)
    picture = shown(page)
    files = {hashlib.sha256(file.read_bytes()).digest() for file in outputs.glob("*/*.png")}
    assert hashlib.sha256(picture).digest() in files
    made = request_in(picture)
    assert (made.prompt, made.seed, made.steps) == (PROMPT, 7, 20)
    expect(page.locator(".stages")).to_contain_text(re.compile(r"text [\d.]+ s · 20 steps"))
    generate(page)
    expect(page.locator(".stages")).to_contain_text("text reused · 20 steps reused")
    keep(page, "create-light")
    own = real.address.partition("://")[2]
    assert {url.partition("/")[0] for url in asked if not url.startswith("image/")} == {own}


def test_only_what_changed_is_computed_again(page: Page) -> None:
    fill(page, "prompt", PROMPT)
    fill(page, "steps", "8")
    fill(page, "seed", "1")
    generate(page)
    fill(page, "seed", "2")
    generate(page)
    expect(page.locator(".stages")).to_contain_text(re.compile(r"text reused · 8 steps [\d.]+ s"))
    fill(page, "prompt", PROMPT + ", a dog")
    generate(page)
    expect(page.locator(".stages")).to_contain_text(re.compile(r"text [\d.]+ s · 8 steps [\d.]+ s"))


def test_stop_ends_a_long_job_and_the_next_one_runs(page: Page) -> None:
    fill(page, "steps", "150")
    fill(page, "count", "50")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("of 150")
    expect(page.locator(".large.live")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".headline")).to_contain_text("Stopped after")
    fill(page, "steps", "4")
    fill(page, "seed", "2")
    fill(page, "count", "1")
    generate(page)
    assert request_in(shown(page)).steps == 4


def test_a_reload_in_mid_run_finds_the_job_again(page: Page) -> None:
    fill(page, "prompt", SCENES[0])
    fill(page, "seed", "2")
    fill(page, "steps", "60")
    # A page that is loaded on a busy machine takes its time, and the job must outlast it.
    fill(page, "count", "8")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("of 8")
    page.reload()
    expect(page.locator(".headline")).to_contain_text("of 8")
    expect(page.locator(".headline")).to_contain_text("Done in", timeout=5 * PATIENCE)
    assert request_in(shown(page)).prompt == SCENES[0]


def test_two_tabs_make_their_own_pictures(
    page: Page, real: Served, context: BrowserContext
) -> None:
    other = opened(context.new_page(), real)
    for tab, prompt in ((page, SCENES[1]), (other, SCENES[2])):
        fill(tab, "prompt", prompt)
        fill(tab, "steps", "60")
        # Of these seeds it is known that the strict filter has nothing against what they make.
        fill(tab, "seed", "2")
    page.locator("#generate").click()
    other.locator("#generate").click()
    for tab, prompt in ((page, SCENES[1]), (other, SCENES[2])):
        expect(tab.locator(".headline")).to_contain_text("Done in")
        assert request_in(shown(tab)).prompt == prompt


def test_a_preset_shows_its_differences_and_changes_the_picture(page: Page, tmp_path: Path) -> None:
    fill(page, "prompt", "a person in a white shirt on a beach")
    fill(page, "seed", "5")
    fill(page, "steps", "12")
    warmth: dict[str, float] = {}
    for preset in ("Postcard, night", "Postcard, sunset"):
        fill(page, "prompt", "a person in a white shirt on a beach")
        page.locator(".presets-open").click()
        sheet = page.locator("dialog.presets")
        sheet.get_by_role("option", name=preset).click()
        expect(sheet.locator("table [data-field=prompt]")).to_be_visible()
        keep(page, "presets")
        sheet.get_by_role("button", name="Apply").click()
        expect(sheet).to_be_hidden()
        generate(page)
        warmth[preset] = redness(shown(page), tmp_path)
    assert warmth["Postcard, sunset"] > warmth["Postcard, night"] + 10
    page.get_by_role("button", name="Why is this different?").click()
    expect(page.locator("dialog[open]")).to_be_visible()


def test_history_finds_shows_deletes_and_gives_back(
    page: Page, outputs: Path, real: Served
) -> None:
    for seed, scene in enumerate(SCENES):
        fill(page, "prompt", scene)
        fill(page, "seed", str(seed))
        generate(page)
    before = len(list(outputs.glob("*/*.png")))
    page.get_by_role("tab", name="History").click()
    expect(page.locator(".tile").nth(3)).to_be_visible()
    keep(page, "history")
    page.get_by_role("searchbox").fill("purple snow")
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile").focus()
    page.keyboard.press("Delete")
    expect(page.locator(".tile")).to_have_count(0)
    assert len(list(outputs.glob("*/*.png"))) == before - 1
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(1)
    assert len(list(outputs.glob("*/*.png"))) == before
    page.locator(".tile").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Use recipe").click()
    expect(page.locator("#input-prompt")).to_have_value(SCENES[3])
    expect(page.locator("#input-seed")).to_have_value("3")


def test_a_dropped_picture_of_ours_makes_the_same_picture_again(page: Page, tmp_path: Path) -> None:
    fill(page, "prompt", SCENES[1])
    fill(page, "seed", "2")
    fill(page, "steps", "10")
    generate(page)
    picture = shown(page)
    page.get_by_role("button", name="Back to the defaults").click()
    sheet = drop(page, "mine.png", picture)
    expect(sheet.locator("[data-field=prompt]")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("#input-prompt")).to_have_value(SCENES[1])
    generate(page)
    again = shown(page)
    pixels: list[np.ndarray] = []
    for name, data in (("first", picture), ("second", again)):
        (tmp_path / f"{name}.png").write_bytes(data)
        with Image.open(tmp_path / f"{name}.png") as file:
            pixels.append(np.asarray(file.convert("RGB"), np.int16))
    assert np.abs(pixels[0] - pixels[1]).max() == 0


def test_a_dropped_picture_of_another_tool_is_read_with_a_report(page: Page) -> None:
    sheet = drop(page, "theirs.png", foreign(INFOTEXT))
    expect(sheet.locator("[data-field=prompt]")).to_be_visible()
    expect(sheet.locator(".report")).to_contain_text("elsewhere")
    keep(page, "differences")
    page.keyboard.press("Enter")
    expect(page.locator("#input-steps")).to_have_value("12")
    generate(page)
    made = request_in(shown(page))
    assert (made.seed, made.cfg, made.schedule, made.clip_skip) == (42, 6.5, "karras", 2)
    assert (made.width, made.height, made.model) == (320, 192, "postcard")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("width", "63", "width is 63: it must be"),
        ("steps", "999", "steps is 999: it must be at most 150."),
        ("prompt", "(a hill AND a house)", "AND"),
        ("prompt", "nude", "refused by the safety check"),
        ("clip_skip", "9", "text encoder has"),
    ],
)
def test_each_kind_of_error_is_a_sentence_where_it_belongs(
    page: Page, field: str, value: str, sentence: str
) -> None:
    page.get_by_text("More settings").click()
    fill(page, field, value)
    page.locator("#generate").click()
    expect(page.locator("#problem")).to_contain_text(sentence)
    page.wait_for_selector("body[data-job=idle]", state="attached")
    if "refused" not in sentence:
        expect(page.locator(f"#field-{field}")).to_have_class(re.compile(r"\bwrong\b"))
    expect(page.locator(f"#input-{field}")).to_have_value(value)
    fill(page, field, "64" if field == "width" else "1" if field != "prompt" else "a hill")
    fill(page, "steps", "2")
    generate(page)
    expect(page.locator("#problem")).to_have_text("")


def test_a_model_that_is_gone_is_named_with_the_nearest(page: Page) -> None:
    page.evaluate(
        """() => sessionStorage.setItem("easel.desk", JSON.stringify({ model: "postcart" }))"""
    )
    page.reload()
    page.wait_for_selector("body[data-job=idle]", state="attached")
    expect(page.locator("#problem")).to_contain_text("did you mean 'postcard'?")
    page.locator("#input-model").select_option("postcard")
    expect(page.locator("#problem")).to_have_text("")


def test_a_picture_starts_from_another_one_as_strongly_as_asked(page: Page, tmp_path: Path) -> None:
    def pixels(png: bytes) -> np.ndarray:
        (tmp_path / "picture.png").write_bytes(png)
        with Image.open(tmp_path / "picture.png") as picture:
            return np.asarray(picture.convert("RGB"), np.float32)

    expect(page.locator("#field-strength")).to_be_hidden()
    fill(page, "prompt", PROMPT)
    fill(page, "seed", "7")
    generate(page)
    first = pixels(shown(page))
    page.get_by_role("button", name="Start from it").click()
    expect(page.locator("#field-init img")).to_be_visible()
    fill(page, "seed", "8")
    away: list[float] = []
    for strength in ("0.2", "0.8"):
        fill(page, "strength", strength)
        generate(page)
        assert request_in(shown(page)).init is not None
        away.append(float(np.abs(pixels(shown(page)) - first).mean()))
    assert away[0] < away[1]
    expect(page.locator(".stages")).to_contain_text("init picture reused")
    page.get_by_role("button", name="Start without a picture").click()
    expect(page.locator("#field-strength")).to_be_hidden()
    generate(page)
    assert request_in(shown(page)).init is None


def test_the_brief_composes_a_picture(page: Page) -> None:
    page.get_by_role("button", name="Brief", exact=True).click()
    sheet = page.locator("dialog[open]")
    sheet.get_by_text("a person in a green shirt running").click()
    keep(page, "brief")
    sheet.get_by_role("button", name="Use as prompt").click()
    expect(page.locator("#input-prompt")).to_have_value("a person in a green shirt running")
    fill(page, "steps", "8")
    fill(page, "seed", "2")
    generate(page)
    assert request_in(shown(page)).prompt == "a person in a green shirt running"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_makes_a_picture(real: Served, chromium: Browser, scheme: str) -> None:
    context = new_context(
        chromium,
        viewport={"width": 390, "height": 844},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=True,
        device_scale_factor=2,
    )
    page = opened(context.new_page(), real)
    fill(page, "prompt", PROMPT)
    fill(page, "seed", "7")
    page.locator("#generate").tap()
    expect(page.locator(".headline")).to_contain_text("Done in")
    expect(tiles(page)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.locator(".large img")).to_be_in_viewport()
    page.evaluate("scrollTo(0, 0)")
    keep(page, f"phone-{scheme}")
    context.close()


def test_the_page_in_the_dark(real: Served, chromium: Browser) -> None:
    context = new_context(chromium, viewport={"width": 1280, "height": 860}, color_scheme="dark")
    page = opened(context.new_page(), real)
    for seed, scene in enumerate(SCENES):
        fill(page, "prompt", scene)
        fill(page, "seed", str(seed))
        generate(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert int(ground.partition("(")[2].partition(",")[0]) < 60
    keep(page, "create-dark")
    context.close()


def test_nothing_half_written_is_left_behind(outputs: Path, page: Page) -> None:
    assert leftovers(outputs) == []

from __future__ import annotations

import hashlib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.ui.browsing import (
    answered_otherwise,
    fill,
    generate,
    new_context,
    opened,
    request_in,
    shown,
    tiles,
)
from tests.ui.served import Served, start
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

PROMPT = "a person in a red shirt on a beach at sunset"


def test_a_click_before_the_engine_is_there_waits_for_it(
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
        page.wait_for_selector("body[data-job=idle]", state="attached")
        # Clicked at once: the job waits for the engine, which is still loading.
        fill(page, "prompt", PROMPT)
        fill(page, "seed", "7")
        page.locator("#generate").click()
        expect(page.locator(".headline")).to_contain_text("Done in")

        picture = shown(page)
        (file,) = outputs.glob("*/*.png")
        assert hashlib.sha256(picture).digest() == hashlib.sha256(file.read_bytes()).digest()
        made = request_in(picture)
        assert (made.prompt, made.seed, made.steps) == (PROMPT, 7, 20)
        with Image.open(file) as opened_file:
            assert max(ImageStat.Stat(opened_file.convert("RGB")).stddev) > 20
        expect(page.locator(".stages")).to_contain_text("20 steps")
        expect(page.locator("#engine")).to_have_attribute("data-phase", "ready")

        # The same again: what did not change is not computed again, and the page says so.
        generate(page)
        expect(page.locator(".stages")).to_contain_text("text reused · 20 steps reused")

        own = served.address.partition("://")[2]
        assert {url.partition("/")[0] for url in asked if not url.startswith("image/")} == {own}
        served.end()
        assert served.process.returncode == 0
    finally:
        served.kill()


def test_untouched_widgets_ask_for_the_default_request(page: Page) -> None:
    generate(page)
    assert request_in(shown(page)) == GenerationRequest()


def test_values_reach_the_request_and_outlive_a_reload(page: Page) -> None:
    page.get_by_text("More settings").click()
    page.get_by_text("Negative prompt", exact=True).first.click()
    typed = {"prompt": "a hill", "width": "320", "steps": "3", "seed": "9007199254740991"}
    for name, value in (typed | {"negative_prompt": "fog"}).items():
        fill(page, name, value)
    page.locator("#input-sampler").select_option("Heun")
    expect(page.locator("#input-cfg")).to_have_attribute("placeholder", "5")
    page.locator("#input-cfg").press("ArrowUp")
    page.reload()
    page.wait_for_selector("body[data-job=idle]", state="attached")
    expect(page.locator("#input-prompt")).to_have_value("a hill")
    generate(page)
    assert request_in(shown(page)) == GenerationRequest(
        prompt="a hill",
        negative_prompt="fog",
        width=320,
        steps=3,
        cfg=5.5,
        seed=2**53 - 1,
        sampler="Heun",
    )
    expect(page.locator(".facts")).to_have_text("Seed 9007199254740991 · 320 \u00d7 256")
    page.get_by_role("button", name="Back to the defaults").click()
    expect(page.locator("#input-sampler")).to_have_value("")
    expect(page.locator("#input-prompt")).to_have_value("")


def test_shapes_swap_and_dice_set_their_fields(page: Page) -> None:
    page.get_by_role("button", name="2:3").click()
    expect(page.get_by_role("button", name="2:3")).to_have_attribute("aria-pressed", "true")
    width, height = (
        int(page.locator(f"#input-{side}").input_value()) for side in ("width", "height")
    )
    assert (width % 8, height % 8) == (0, 0)
    assert width / height == pytest.approx(2 / 3, rel=0.05)
    assert width * height == pytest.approx(256 * 256, rel=0.1)
    page.get_by_role("button", name="Swap width and height").click()
    expect(page.locator("#input-width")).to_have_value(str(height))
    page.locator("#input-steps").fill("1")
    fill(page, "seed", "77")
    generate(page)
    page.locator("#dice").click()
    expect(page.locator("#input-seed")).to_have_value("")
    page.locator("#reuse-seed").click()
    expect(page.locator("#input-seed")).to_have_value("77")


def test_the_pictures_of_the_session_are_there_newest_first_and_can_be_chosen(page: Page) -> None:
    fill(page, "steps", "1")
    for seed in ("11", "12"):
        fill(page, "seed", seed)
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
    tiles(page).nth(1).press("ArrowLeft")
    expect(page.locator(".facts")).to_contain_text("Seed 12")
    page.reload()
    expect(tiles(page)).to_have_count(2)
    page.get_by_role("button", name="Use this seed").click()
    expect(page.locator("#input-seed")).to_have_value("12")


def test_a_finished_picture_is_shown_before_the_list_of_them_is_there(page: Page) -> None:
    fill(page, "prompt", "first")
    generate(page)
    first = page.locator(".large img").get_attribute("src")
    page.route("**/pictures", lambda _: None)
    fill(page, "prompt", "second")
    generate(page)
    second = page.locator(".large img").get_attribute("src")
    assert second != first
    assert request_in(shown(page)).prompt == "second"
    expect(tiles(page)).to_have_count(2)


def test_stop_and_escape_end_a_long_job(page: Page) -> None:
    fill(page, "steps", "150")
    fill(page, "count", "100")
    for stop in (lambda: page.locator("#stop").click(), lambda: page.keyboard.press("Escape")):
        page.keyboard.press("Control+Enter")
        expect(page.locator(".headline")).to_contain_text("of 150 · 0.05 s per step")
        expect(page.locator(".large.live")).to_be_visible()
        stop()
        # 100 batches take ten minutes, for which nobody waits here.
        expect(page.locator(".headline")).to_contain_text("Stopped after")
        page.wait_for_selector("body[data-job=idle]", state="attached")


def test_a_bad_value_is_one_sentence_and_nothing_is_lost(page: Page) -> None:
    sentence = "width is 60: it must be a multiple of 8, such as 64."
    fill(page, "prompt", PROMPT)
    fill(page, "width", "60")
    # Told while it is typed, and again by the server each time it is asked for.
    expect(page.locator("#problem")).to_have_text(sentence)
    for _ in range(2):
        page.locator("#generate").click()
        expect(page.locator("#problem")).to_have_text(sentence)
        page.wait_for_selector("body[data-job=idle]", state="attached")
    expect(page.locator("#input-width")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".toast-body")).to_have_count(0)
    expect(page.locator("#input-prompt")).to_have_value(PROMPT)
    expect(page.locator("#input-width")).to_have_value("60")
    fill(page, "width", "64")
    expect(page.locator("#problem")).to_have_text("")
    generate(page)
    assert request_in(shown(page)).width == 64


def test_a_job_goes_on_over_a_reload_and_outlives_its_tab(
    page: Page, fake: Served, context: BrowserContext
) -> None:
    fill(page, "prompt", "a hill")
    fill(page, "count", "100")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("of 100")
    page.reload()
    expect(page.locator(".headline")).to_contain_text("of 100")
    expect(tiles(page).nth(1)).to_be_visible()
    expect(page.locator("#input-prompt")).to_have_value("a hill")
    page.close()
    again = opened(context.new_page(), fake)
    expect(again.locator(".headline")).to_contain_text("of 100")
    # A tab that takes a job over shows what was asked for.
    expect(again.locator("#input-prompt")).to_have_value("a hill")
    again.locator("#stop").click()
    expect(again.locator(".headline")).to_contain_text("Stopped after")


@pytest.fixture
def busy(page: Page) -> Page:
    """A tab whose job has made its first pictures and goes on for minutes."""
    fill(page, "prompt", "first")
    fill(page, "steps", "10")
    fill(page, "count", "100")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("of 100")
    expect(tiles(page).nth(1)).to_be_visible()
    return page


def test_two_tabs_do_not_mix(busy: Page, fake: Served, context: BrowserContext) -> None:
    other = opened(context.new_page(), fake)
    expect(other.locator("#input-prompt")).to_have_value("")
    expect(other.locator("#generate")).to_be_visible()
    fill(other, "prompt", "second")
    fill(other, "steps", "2")
    other.locator("#generate").click()
    expect(other.locator(".headline")).to_have_text("Next in line")
    busy.locator("#stop").click()
    expect(busy.locator(".headline")).to_contain_text("Stopped after")
    expect(other.locator(".headline")).to_contain_text("Done in")
    for tab, prompt in ((busy, "first"), (other, "second")):
        assert request_in(shown(tab)).prompt == prompt
        tab.reload()
        expect(tab.locator("#input-prompt")).to_have_value(prompt)
        expect(tab.locator(".large img")).to_have_attribute("alt", prompt)


def test_stopping_in_one_tab_leaves_the_others_job_alone(
    busy: Page, fake: Served, context: BrowserContext
) -> None:
    other = opened(context.new_page(), fake)
    other.locator("#generate").click()
    # Longer than a new tab looks for a job whose own tab is gone.
    other.wait_for_timeout(4_000)
    expect(other.locator(".headline")).to_have_text("Next in line")
    other.locator("#stop").click()
    expect(other.locator(".headline")).to_contain_text("Stopped after")
    made = tiles(busy).count()
    expect(tiles(busy).nth(made)).to_be_visible()
    busy.locator("#stop").click()
    expect(busy.locator(".headline")).to_contain_text("Stopped after")


def test_another_browser_sees_none_of_it(page: Page, fake: Served, chromium: Browser) -> None:
    fill(page, "steps", "1")
    generate(page)
    source = page.locator(".large img").get_attribute("src")
    other = new_context(chromium)
    stranger = opened(other.new_page(), fake)
    expect(tiles(stranger)).to_have_count(0)
    assert stranger.request.get(f"{fake.address}/{source}").status == 404
    assert page.request.get(f"{fake.address}/{source}").status == 200
    other.close()


def test_a_prompt_is_text_and_never_code(page: Page) -> None:
    trap = "${document.title='broken'} {{constructor}} <img src=x onerror=\"document.title='b'\">"
    fill(page, "prompt", trap)
    fill(page, "steps", "1")
    generate(page)
    expect(page.locator(".large img")).to_have_attribute("alt", trap)
    expect(page.locator(".strip img").first).to_have_attribute("alt", trap)
    assert page.title() == "Easel"
    assert page.locator("img[src=x]").count() == 0


def test_weights_move_by_keys_and_can_be_undone(page: Page) -> None:
    box = page.locator("#input-prompt")
    box.fill("a red hill")
    box.evaluate("box => box.setSelectionRange(2, 5)")
    box.press("Control+ArrowUp")
    expect(box).to_have_value("a (red:1.1) hill")
    box.press("Control+ArrowUp")
    expect(box).to_have_value("a (red:1.2) hill")
    for _ in range(3):
        box.press("Control+ArrowDown")
    expect(box).to_have_value("a (red:0.9) hill")
    box.press("Control+ArrowUp")
    expect(box).to_have_value("a red hill")
    box.press("Control+z")
    expect(box).to_have_value("a (red:0.9) hill")


def test_of_a_model_that_reads_plain_text_and_lacks_parts_both_is_said(page: Page) -> None:
    missing = [
        {"kind": "vae", "name": "FLUX.1", "folder": "models/vae", "address": None},
        {"kind": "tokenizer", "name": "T5-XXL", "folder": "models/text_encoders", "address": "a/b"},
    ]

    def plain(shelf: dict[str, Any]) -> None:
        for model in shelf["models"]:
            model["weighs"] = False

    def unread(seen: dict[str, Any]) -> None:
        seen["missing"] = missing
        seen["prompt"]["unread"] = True

    answered_otherwise(page, "shelf", plain)
    answered_otherwise(page, "look", unread)
    page.reload()
    page.wait_for_selector("body[data-job=idle]", state="attached")
    expect(page.locator("#note-model")).to_have_text(
        "Missing in models/vae: the VAE of FLUX.1\n"
        "Missing in models/text_encoders: the tokenizer of T5-XXL (on the hub: a/b)"
    )
    box = page.locator("#input-prompt")
    box.fill("a red hill")
    expect(page.locator("#tokens-prompt")).to_contain_text("reads plain text")
    box.press("Control+ArrowUp")
    expect(page.locator("#toast")).to_contain_text("words have no weights there")
    expect(box).to_have_value("a red hill")


def test_the_prompts_tokens_cuts_and_brackets_are_shown(page: Page) -> None:
    fill(page, "prompt", "a hill ((")
    expect(page.locator("#tokens-prompt")).to_contain_text("of 75 tokens")
    expect(page.locator("#tokens-prompt")).to_contain_text("a bracket has no partner")
    expect(page.locator("#field-prompt mark.unmatched")).to_have_count(2)
    fill(page, "prompt", "a hill, " * 60)
    expect(page.locator("#field-prompt mark.cut").first).to_be_attached()
    expect(page.locator("#tokens-prompt")).to_contain_text("parts")


def test_advice_is_one_quiet_line_and_one_click_mends_it(page: Page) -> None:
    fill(page, "cfg", "30")
    line = page.locator("#field-cfg .advice")
    expect(line).to_be_visible()
    line.get_by_role("button").click()
    expect(line).to_be_hidden()
    assert float(page.locator("#input-cfg").input_value()) < 30
    fill(page, "cfg", "30")
    expect(line).to_be_visible()
    fill(page, "steps", "1")
    generate(page)
    assert request_in(shown(page)).cfg == 30, "advice never keeps anybody from anything"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(
    fake: Served, chromium: Browser, scheme: str, tmp_path: Path
) -> None:
    context = new_context(
        chromium,
        viewport={"width": 390, "height": 844},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=True,
    )
    page = opened(context.new_page(), fake)
    fill(page, "steps", "1")
    generate(page)
    page.get_by_text("More settings").click()
    expect(page.locator("#field-clip_skip")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.locator("#generate")).to_be_in_viewport()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.partition("(")[2].partition(",")[0])
    assert red < 60 if scheme == "dark" else red > 200
    page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    page.locator("#theme").click()
    changed = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert changed != ground
    page.reload()
    page.wait_for_selector("body[data-job=idle]", state="attached")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == changed
    context.close()

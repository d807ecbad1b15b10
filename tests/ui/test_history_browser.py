from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.fakes import gradient, png
from tests.ui.browsing import fill, generate, new_context, opened
from tests.ui.served import Served, copied
from webui.provenance.pngtext import insert_text
from webui.request import GenerationRequest, LoraChoice

pytestmark = pytest.mark.browser

SOME = 48
MANY = 5_000
WORDS = ("harbour", "meadow", "bridge", "garden")
NEWEST = datetime(2026, 5, 20, 18, 0)
APART = timedelta(hours=2)
"""Between two pictures: twelve of them make a day."""


def write_pictures(folder: Path, many: int) -> None:
    """Small neutral pictures with recipes, the newest first; each fourth is of another model."""
    plain = png(gradient(48, 48, 3), GenerationRequest())
    for n in range(many):
        recipe = GenerationRequest(
            prompt=f"a {WORDS[n % 4]} in soft light, number {n}",
            seed=1_000 + n,
            steps=10 + n % 5,
            width=64,
            height=64,
            model="postcard" if n % 4 else "other",
            loras=(LoraChoice(name="grain", weight=0.5),) if n % 4 == 3 else (),
        )
        record = {"schema": 1, "request": recipe.model_dump(mode="json")}
        made = (NEWEST - n * APART).timestamp()
        path = folder / f"{n:05}.png"
        path.write_bytes(insert_text(plain, {"easel": json.dumps(record)}))
        os.utime(path, (made, made))


def served_over(folder: Path) -> Generator[Served, None, None]:
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.01")
    served = copied(arguments, log=folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    folder = tmp_path_factory.mktemp("some")
    write_pictures(folder, SOME)
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    os.utime(folder / "torn.png", (NEWEST.timestamp() + 60, NEWEST.timestamp() + 60))
    yield from served_over(folder)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    folder = tmp_path_factory.mktemp("many")
    write_pictures(folder, MANY)
    yield from served_over(folder)


@pytest.fixture
def place(some: Served, context: BrowserContext) -> Page:
    """The place of 48 pictures and a broken file, all of them found."""
    return visited(context.new_page(), some)


def visited(page: Page, served: Served, count: str = f"{SOME + 1} pictures") -> Page:
    opened(page, served, "/#history")
    expect(page.locator(".count")).to_have_text(count)
    return page


def tile(page: Page, n: int) -> Locator:
    """The picture with that number in its prompt."""
    return page.locator(".tile", has=page.get_by_role("img", name=re.compile(rf"number {n}$")))


def seek(page: Page, words: str) -> None:
    page.get_by_role("searchbox").fill(words)


def chosen(page: Page) -> int:
    return page.locator(".tile[aria-selected=true]").count()


def is_focused(locator: Locator) -> None:
    expect(locator).to_be_focused()


def test_pictures_stand_by_their_days_newest_first(place: Page) -> None:
    days = place.locator(".grid .day")
    expect(days.nth(0)).to_contain_text("20 May 2026")
    expect(days.nth(1)).to_contain_text("19 May 2026")
    first = place.locator(".tile").nth(1)
    expect(first.get_by_role("img")).to_have_attribute("alt", re.compile("number 0$"))
    image = first.locator("img")
    expect(image).to_have_js_property("complete", True)
    # Room is kept for a picture before it is there, so that nothing jumps.
    assert image.get_attribute("width") == image.get_attribute("height") != "0"


def test_a_broken_file_is_named_with_its_reason(place: Page) -> None:
    torn = place.locator(".tile", has_text="torn.png")
    expect(torn.locator(".reason span")).not_to_be_empty()
    expect(torn.locator("img")).to_have_count(0)


def test_pictures_are_found_by_words_model_and_day(place: Page) -> None:
    seek(place, "soft HARBOUR")
    expect(place.locator(".count")).to_have_text("12 pictures")
    place.get_by_role("combobox", name="Model").select_option("postcard")
    expect(place.locator(".nothing")).to_contain_text("Nothing matches.")
    expect(place.locator(".tile")).to_have_count(0)
    place.get_by_role("button", name="Show all pictures").click()
    expect(place.locator(".count")).to_have_text(f"{SOME + 1} pictures")
    expect(place.get_by_role("searchbox")).to_have_value("")
    place.get_by_label("From", exact=True).fill("2026-05-19")
    place.get_by_label("To", exact=True).fill("2026-05-19")
    expect(place.locator(".count")).to_have_text("12 pictures")
    expect(place.locator(".grid .day")).to_have_count(1)


def test_a_preset_finds_the_pictures_it_would_make(place: Page) -> None:
    made = place.request.post(
        place.url.partition("#")[0] + "presets",
        data={"name": "Twelve", "about": "", "request": {"steps": 12}},
        headers={"origin": place.url.partition("/#")[0]},
    )
    assert made.ok, made.text()
    place.locator("#to-create").click()
    place.locator("#to-history").click()
    place.get_by_role("combobox", name="preset").select_option("Twelve")
    alike = len([n for n in range(SOME) if n % 5 == 2])
    expect(place.locator(".count")).to_have_text(f"{alike} pictures")


def test_deleting_can_be_taken_back(place: Page) -> None:
    seek(place, "meadow")
    expect(place.locator(".count")).to_have_text("12 pictures")
    tile(place, 5).hover()
    tile(place, 5).get_by_role("checkbox").click()
    place.get_by_role("button", name="Delete").click()
    expect(place.locator("#toast")).to_contain_text("1 picture moved to the trash.")
    expect(place.locator(".count")).to_have_text("11 pictures")
    expect(tile(place, 5)).to_have_count(0)
    place.get_by_role("button", name="Undo").click()
    expect(place.locator(".count")).to_have_text("12 pictures")
    alts = place.locator(".tile img").evaluate_all("all => all.map((one) => one.alt)")
    assert [int(alt.rpartition(" ")[2]) for alt in alts][:3] == [1, 5, 9]


def test_many_are_chosen_by_range_and_all_at_once(place: Page) -> None:
    seek(place, "garden")
    expect(place.locator(".count")).to_have_text("12 pictures")
    tile(place, 3).click(modifiers=["Control"])
    tile(place, 15).click(modifiers=["Shift"])
    assert chosen(place) == 4
    expect(place.locator(".count")).to_have_text("4 chosen")
    tile(place, 7).click(modifiers=["Control"])
    assert chosen(place) == 3
    place.keyboard.press("Control+a")
    expect(place.locator(".count")).to_have_text("12 chosen")
    place.keyboard.press("Escape")
    expect(place.locator(".count")).to_have_text("12 pictures")
    assert chosen(place) == 0


def test_the_keyboard_walks_chooses_opens_and_deletes(place: Page) -> None:
    seek(place, "meadow")
    expect(place.locator(".count")).to_have_text("12 pictures")
    place.locator(".tile[tabindex='0']").focus()
    is_focused(tile(place, 1))
    place.keyboard.press("ArrowRight")
    is_focused(tile(place, 5))
    place.keyboard.press("Shift+ArrowRight")
    assert chosen(place) == 2
    place.keyboard.press("Escape")
    # Three of them a day: the next row is the next day's.
    place.keyboard.press("ArrowDown")
    is_focused(tile(place, 21))
    place.keyboard.press("ArrowUp")
    is_focused(tile(place, 9))
    place.keyboard.press("Enter")
    sheet = place.locator("dialog.picture")
    expect(sheet.locator(".recipe").first).to_contain_text("number 9")
    place.keyboard.press("ArrowRight")
    expect(sheet.locator(".recipe").first).to_contain_text("number 13")
    place.keyboard.press("Escape")
    expect(sheet).not_to_be_visible()
    is_focused(tile(place, 13))
    place.keyboard.press("Space")
    place.keyboard.press("Delete")
    expect(place.locator(".count")).to_have_text("11 pictures")
    is_focused(tile(place, 17))
    place.get_by_role("button", name="Undo").click()
    expect(place.locator(".count")).to_have_text("12 pictures")


def test_a_recipe_comes_to_the_page_whole_and_can_be_taken_back(place: Page) -> None:
    tile(place, 7).click()
    place.get_by_role("button", name="Use recipe").click()
    expect(place.locator("#create")).to_be_visible()
    expect(place.locator("#input-prompt")).to_have_value("a garden in soft light, number 7")
    expect(place.locator("#input-seed")).to_have_value("1007")
    expect(place.locator("#input-steps")).to_have_value("12")
    expect(place.locator("#toast")).to_contain_text("The recipe is on the page.")
    expect(place.locator("#loras")).to_contain_text("grain")
    place.get_by_role("button", name="Undo").click()
    expect(place.locator("#input-prompt")).to_have_value("")
    expect(place.locator("#input-seed")).to_have_value("")


def test_a_seed_alone_comes_to_the_page_and_the_sheet_stays(place: Page) -> None:
    tile(place, 4).click()
    sheet = place.locator("dialog.picture")
    sheet.get_by_role("button", name="Use this seed").click()
    # The message must not lie behind the sheet, where it could not be pressed.
    expect(sheet.locator("#toast")).to_contain_text("Seed 1004")
    expect(place.locator("#input-seed")).to_have_value("1004")
    sheet.get_by_role("button", name="Undo").click()
    expect(place.locator("#input-seed")).to_have_value("")


def test_the_page_is_compared_with_a_picture(place: Page) -> None:
    tile(place, 6).click()
    place.get_by_role("button", name="Why is this different?").click()
    expect(place.locator("dialog.comparison")).to_contain_text("a bridge in soft light, number 6")


def test_the_trash_gives_back_and_asks_once_before_it_is_emptied(
    context: BrowserContext, tmp_path: Path
) -> None:
    write_pictures(tmp_path, 3)
    for served in served_over(tmp_path):
        page = visited(context.new_page(), served, "3 pictures")
        page.locator(".tile").first.focus()
        page.keyboard.press("Control+a")
        expect(page.locator(".count")).to_have_text("3 chosen")
        page.keyboard.press("Delete")
        expect(page.locator(".nothing")).to_contain_text("No pictures yet")
        assert not list(tmp_path.glob("*.png"))
        page.get_by_role("button", name="Trash", exact=True).click()
        expect(page.locator(".count")).to_have_text("3 pictures in the trash")
        tile(page, 1).click(modifiers=["Control"])
        page.get_by_role("button", name="Restore").click()
        expect(page.locator(".count")).to_have_text("2 pictures in the trash")
        assert [path.name for path in tmp_path.glob("*.png")] == ["00001.png"]
        page.get_by_role("button", name="Empty the trash").click()
        page.get_by_role("button", name="Cancel").click()
        assert len(list((tmp_path / ".trash").glob("*.png"))) == 2
        page.get_by_role("button", name="Empty the trash").click()
        page.get_by_role("dialog").get_by_role("button", name="Empty the trash").click()
        expect(page.locator(".nothing")).to_have_text("The trash is empty.")
        assert not list(tmp_path.glob(".trash/*.png"))


def test_a_new_picture_is_there_on_the_next_visit(fake: Served, context: BrowserContext) -> None:
    page = opened(context.new_page(), fake)
    fill(page, "steps", "1")
    fill(page, "seed", "31")
    fill(page, "prompt", "a hill, number 31")
    generate(page)
    page.locator("#to-history").click()
    expect(tile(page, 31)).to_be_visible()
    page.locator("#to-create").click()
    fill(page, "seed", "32")
    fill(page, "prompt", "a hill, number 32")
    generate(page)
    page.locator("#to-history").click()
    expect(page.locator(".tile img").first).to_have_attribute("alt", "a hill, number 32")
    expect(tile(page, 31)).to_be_visible()


def test_of_5000_pictures_only_those_near_the_window_are_in_the_page(
    many: Served, context: BrowserContext
) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visited(page, many, "5,000 pictures")
    expect(page.locator(".tile img").first).to_have_js_property("complete", True)
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height > 20_000, "the room for all of them is kept before they are fetched"
    assert page.locator(".tile").count() < 160
    assert sum("thumbnail" in url for url in asked) < 160
    page.mouse.move(600, 500)
    for _ in range(20):
        page.mouse.wheel(0, 2_000)
        page.wait_for_timeout(30)
        assert page.locator(".tile").count() < 160
    expect(page.get_by_role("searchbox")).to_be_in_viewport()
    # What is far below is fetched without another touch of the wheel.
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(tile(page, MANY - 1)).to_be_visible()
    assert page.locator(".tile").count() < 160
    assert sum("thumbnail" in url for url in asked) < MANY / 2, "only where the window passed"


def test_the_place_is_found_again_where_it_was_left(many: Served, context: BrowserContext) -> None:
    page = visited(context.new_page(), many, "5,000 pictures")
    page.evaluate("scrollTo(0, 6000)")
    seen = "document.elementFromPoint(600, 500).closest('.tile')?.dataset.id"
    page.wait_for_function(seen)
    before, top = page.evaluate(seen), page.evaluate("scrollY")
    # Clicked without Playwright's scrolling to what it clicks.
    page.locator("#to-create").dispatch_event("click")
    page.locator("#to-history").dispatch_event("click")
    page.wait_for_function(f"{seen} === '{before}'")
    assert page.evaluate("scrollY") == top


def test_a_visitor_from_another_machine_reads_one_sentence(some: Served, chromium: Browser) -> None:
    context = new_context(chromium, extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = opened(context.new_page(), some, "/#history")
    sentence = "This can only be used on the machine that Easel runs on."
    expect(page.locator("#history")).to_have_text(sentence, use_inner_text=True)
    expect(page.get_by_role("searchbox")).to_have_count(0)
    context.close()


def test_a_finger_chooses_by_resting_and_a_phone_does_not_scroll_sideways(
    some: Served, chromium: Browser
) -> None:
    context = new_context(
        chromium, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = visited(context.new_page(), some)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    touch: Any = context.new_cdp_session(page)
    box = tile(page, 2).bounding_box()
    assert box
    point = {"x": box["x"] + 30, "y": box["y"] + 30}
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    expect(page.locator(".count")).to_have_text("1 chosen")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator(".count")).to_have_text("1 chosen")
    tile(page, 3).tap()
    expect(page.locator(".count")).to_have_text("2 chosen")
    page.get_by_role("button", name="Choose none").click()
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    tile(page, 3).tap()
    expect(page.locator("dialog.picture")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()

"""Comparing LoRAs on the page: a strip of strengths, who did this, and what each changes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.browsing import fill, generate, request_in, shown, tiles
from tests.ui.test_axe_browser import violations
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

INK: dict[str, Any] = {"name": "ink", "weight": 0.3}
PAPER: dict[str, Any] = {"name": "paper cut", "weight": 1.0}
ROW = {"text_encoder_weight": None, "start": 0, "end": 1, "enabled": True}


def stacked(page: Page, *rows: dict[str, Any], **values: Any) -> Page:
    """The page with that stack, as a reload finds it."""
    desk = {"loras": [ROW | row for row in rows], "steps": 3, **values}
    page.evaluate("desk => sessionStorage.setItem('easel.desk', desk)", json.dumps(desk))
    page.reload()
    page.wait_for_selector("body[data-job]", state="attached")
    return page


def drafts(page: Page) -> Locator:
    return page.locator(".drafts button")


def made(page: Page, count: int) -> list[GenerationRequest]:
    """What the drafts were made from, once all of them are there."""
    expect(drafts(page)).to_have_count(count)
    for tile in drafts(page).all():
        expect(tile).to_be_enabled()
    sources = [image.get_attribute("src") for image in page.locator(".drafts img").all()]
    address = re.sub(r"[?#].*", "", page.url).rstrip("/")
    return [request_in(page.request.get(f"{address}/{source}").body()) for source in sources]


def compare(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"More for {name}").click()
    page.get_by_role("button", name="Compare strengths").last.click()


def strength(page: Page, name: str) -> Locator:
    return page.get_by_role("slider", name=f"Strength of {name}")


def toasted(page: Page) -> Locator:
    return page.locator("#toast")


def test_one_of_five_strengths_is_taken_and_taken_back(page: Page) -> None:
    stacked(page, INK, PAPER, steps=20, count=3)
    compare(page, "paper cut")
    requests = made(page, 5)
    assert [request.loras[1].weight for request in requests] == [0, 0.3, 0.6, 0.9, 1.2]
    assert {request.loras[0].weight for request in requests} == {0.3}
    assert {(request.steps, request.count) for request in requests} == {(8, 1)}
    assert len({request.seed for request in requests}) == 1

    taken = page.get_by_role("button", name="0.6", exact=True)
    expect(taken).to_have_attribute("aria-pressed", "false")
    taken.click()
    expect(strength(page, "paper cut")).to_have_value("0.6")
    expect(strength(page, "ink")).to_have_value("0.3")
    expect(taken).to_have_attribute("aria-pressed", "true")
    expect(toasted(page)).to_contain_text("paper cut is at strength 0.6 now.")
    page.get_by_role("button", name="Undo").click()
    expect(strength(page, "paper cut")).to_have_value("1")
    expect(taken).to_have_attribute("aria-pressed", "false")

    taken.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(strength(page, "paper cut")).to_have_value("0.3")
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    assert violations(page) == []


def test_drafts_go_on_after_what_is_asked_for_and_are_no_pictures_of_the_session(
    page: Page,
) -> None:
    stacked(page, INK, PAPER, prompt="a hill of its own")
    page.get_by_role("button", name="Who did this?").click()
    expect(page.locator(".lineup")).to_be_visible()
    before = tiles(page).count()
    generate(page)
    requests = made(page, 3)
    assert [[row.enabled for row in request.loras] for request in requests] == [
        [True, True],
        [False, True],
        [True, False],
    ]
    expect(tiles(page)).to_have_count(before + 1)
    assert request_in(shown(page)).prompt == "a hill of its own"
    assert request_in(shown(page)).steps == 3
    page.get_by_role("tab", name="History").click()
    page.get_by_role("searchbox").first.fill("a hill of its own")
    expect(page.locator("#history .tile img")).to_have_count(1)


def test_who_did_this_mutes_a_row_and_can_be_closed_and_made_anew(page: Page) -> None:
    stacked(page, INK, PAPER)
    asked = page.get_by_role("button", name="Who did this?")
    asked.click()
    made(page, 3)
    whole = page.get_by_role("button", name="As it is")
    expect(whole).to_have_attribute("aria-pressed", "true")
    without = page.get_by_role("button", name="Without ink")
    without.click()
    expect(page.get_by_role("button", name="Mute ink")).to_have_attribute("aria-pressed", "true")
    expect(without).to_have_attribute("aria-pressed", "true")
    expect(toasted(page)).to_contain_text("ink is muted now.")
    page.get_by_role("button", name="Without paper cut").click()
    expect(page.get_by_role("button", name="Mute ink")).to_have_attribute("aria-pressed", "false")
    whole.click()
    expect(page.get_by_role("button", name="Mute paper cut")).to_have_attribute(
        "aria-pressed", "false"
    )

    # The picture that is looked at is the one that is compared with.
    generate(page)
    expect(page.locator(".facts")).to_be_visible()
    seed = int(re.findall(r"\d+", page.locator(".facts").inner_text())[0])
    first = page.locator(".drafts img").first
    before = str(first.get_attribute("src"))
    asked.click()
    expect(first).not_to_have_attribute("src", before)
    assert {request.seed for request in made(page, 3)} == {seed}
    page.get_by_role("button", name="Remove ink").click()
    without.click()
    expect(toasted(page)).to_contain_text("ink is not in the stack any more.")
    source = first.get_attribute("src")
    with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        page.get_by_role("button", name="Close the comparison").click()
    expect(page.locator(".lineup")).to_be_hidden()
    expect(asked).to_be_focused()
    address = re.sub(r"[?#].*", "", page.url).rstrip("/")
    assert page.request.get(f"{address}/{source}").status == 404


def test_what_a_lora_changes_of_a_transformer_is_shown_by_kinds_of_blocks(page: Page) -> None:
    stacked(page, {"name": "grand"})
    fill(page, "steps", "2")
    generate(page)
    page.get_by_role("button", name="grand", exact=True).click()
    card = page.locator("dialog.lora-card")
    expect(card.locator(".bars.few li")).to_have_count(1)
    rows = card.locator(".bars.many")
    expect(rows).to_have_count(2)
    expect(card.locator(".chart h4").first).to_have_text(
        "Double blocks: picture and text apartup to 3.8%"
    )
    expect(rows.nth(0).locator("li")).to_have_count(19)
    expect(rows.nth(1).locator("li")).to_have_count(38)
    last = rows.nth(1).locator("li").last
    expect(last).to_have_attribute("title", "Single block 38: 3.8%")
    highest = [row.locator("li").last.locator("i").bounding_box() for row in rows.all()]
    assert [box and round(box["height"]) for box in highest] == [64, 64]
    assert violations(page) == []


def test_a_draft_that_fails_says_why_and_the_others_are_made(page: Page) -> None:
    stacked(page, {"name": "nowhere"}, INK)
    page.get_by_role("button", name="Who did this?").click()
    expect(page.get_by_role("button", name="Without nowhere")).to_be_enabled()
    broken = drafts(page).nth(2)
    expect(broken).to_contain_text("Row 1 of the LoRAs")
    expect(broken).to_be_disabled()
    stacked(page, INK, width=63)
    page.get_by_role("button", name="Who did this?").click()
    expect(toasted(page)).to_contain_text("width is 63")
    expect(page.locator(".lineup")).to_be_hidden()


def test_what_a_lora_changes_is_shown_once_it_was_used(page: Page) -> None:
    stacked(page, INK, PAPER)
    about = page.get_by_role("button", name="ink", exact=True)
    card = page.locator("dialog.lora-card")
    about.click()
    expect(card).to_be_visible()
    expect(card.locator(".bars")).to_have_count(0)
    page.keyboard.press("Escape")
    overlap = page.locator(".overlaps")
    expect(overlap).to_be_empty()

    fill(page, "steps", "2")
    generate(page)
    expect(overlap).to_have_text("ink and paper cut overlap by 62%.")
    about.click()
    bars = card.locator(".bars li")
    expect(bars).to_have_count(6)
    assert [bar.inner_text().split() for bar in bars.all()] == [
        ["0", "Text"],
        ["1", "In"],
        ["2", "Down", "1"],
        ["3", "Mid"],
        ["4", "Up", "1"],
        ["5", "Out"],
    ]
    heights = [bar.locator("i").bounding_box() for bar in bars.all()]
    tall = [box["height"] for box in heights if box]
    assert tall == sorted(tall)
    assert tall[-1] > 4 * tall[1]
    expect(card.locator(".overlap-rows li")).to_have_text("paper cut62%")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Mute ink").click()
    expect(overlap).to_be_empty()

"""The stack of LoRAs on the page: built, ordered, muted, and what is told of each row."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.ui.browsing import fill, generate, request_in, shown
from webui.request import LoraChoice

pytestmark = pytest.mark.browser

MANY = 1000


def rows(page: Page) -> Locator:
    return page.locator("#loras .lora-row")


def row(page: Page, name: str) -> Locator:
    return rows(page).filter(has=page.get_by_role("button", name=name, exact=True))


def names(page: Page) -> list[str]:
    return page.locator("#loras .lora-row .name").all_text_contents()


def add(page: Page, words: str) -> None:
    """By keyboard alone, from the button on."""
    page.locator("#loras .add").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)


def stack(page: Page) -> tuple[LoraChoice, ...]:
    """The stack in the recipe of a picture made now."""
    fill(page, "steps", "1")
    generate(page)
    return request_in(shown(page)).loras


def test_a_stack_is_built_weighed_ordered_and_seen_in_the_picture(page: Page) -> None:
    fill(page, "prompt", "a hill")
    for words in ("ink", "PAPER", "bare"):
        add(page, words)
    assert names(page) == ["ink", "paper cut", "bare"]
    slider = row(page, "ink").get_by_role("slider", name="Strength of ink")
    page.evaluate("element => { window.first = element }", slider.element_handle())
    slider.focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(key)
    expect(row(page, "ink").get_by_role("spinbutton", name="Strength of ink")).to_have_value("0.71")
    row(page, "bare").get_by_role("spinbutton", name="Strength of bare").fill("-3.5")
    assert slider.evaluate("element => element === window.first"), "no row is made anew"

    slider.focus()
    page.keyboard.press("Alt+ArrowDown")
    assert names(page) == ["paper cut", "ink", "bare"]
    expect(slider).to_be_focused()
    expect(slider).to_have_value("0.71")
    drag(page, row(page, "bare"), row(page, "paper cut"))
    assert names(page) == ["bare", "paper cut", "ink"]

    more = row(page, "ink").get_by_role("button", name="More for ink")
    more.click()
    row(page, "ink").get_by_role("spinbutton", name="In the text encoder").fill("0.2")
    row(page, "ink").get_by_role("spinbutton", name="From (% of the steps)").fill("25")
    row(page, "ink").get_by_role("spinbutton", name="Until (% of the steps)").fill("80")
    assert stack(page) == (
        LoraChoice(name="bare", weight=-3.5),
        LoraChoice(name="paper cut"),
        LoraChoice(name="ink", weight=0.71, text_encoder_weight=0.2, start=0.25, end=0.8),
    )
    for name in ("bare", "paper cut", "ink"):
        expect(row(page, name).locator(".note")).to_have_text("264 of 264 layers matched")
        expect(row(page, name).locator(".note")).not_to_have_class(re.compile("warn"))

    box = row(page, "ink").get_by_role("spinbutton", name="In the text encoder")
    box.fill("")
    expect(box).to_have_attribute("placeholder", "same")
    row(page, "ink").get_by_role("button", name="Move ink up").click()
    assert names(page) == ["bare", "ink", "paper cut"]
    assert stack(page)[1].text_encoder_weight is None
    page.reload()
    expect(rows(page)).to_have_count(3)
    assert names(page) == ["bare", "ink", "paper cut"]


def drag(page: Page, what: Locator, above: Locator) -> None:
    what.locator(".grip").hover()
    page.mouse.down()
    to = above.bounding_box()
    assert to
    page.mouse.move(to["x"], to["y"] + to["height"], steps=6)
    page.mouse.move(to["x"], to["y"], steps=6)
    page.mouse.up()


def test_rows_are_muted_heard_alone_and_removed_and_all_of_it_can_be_taken_back(page: Page) -> None:
    for words in ("ink", "paper", "bare"):
        add(page, words)
    page.get_by_role("button", name="Mute paper cut").click()
    expect(row(page, "paper cut")).to_have_class(re.compile("muted"))
    only = page.get_by_role("button", name="Only bare")
    only.click()
    expect(only).to_have_attribute("aria-pressed", "true")
    assert [choice.enabled for choice in stack(page)] == [False, False, True]
    page.get_by_role("button", name="Only ink").click()
    assert [choice.enabled for choice in stack(page)] == [True, False, False]
    page.get_by_role("button", name="Only ink").click()
    assert [choice.enabled for choice in stack(page)] == [True, False, True]

    page.get_by_role("button", name="Remove paper cut").click()
    assert names(page) == ["ink", "bare"]
    row(page, "ink").get_by_role("spinbutton", name="Strength of ink").fill("0.5")
    assert stack(page)[0].weight == 0.5
    page.locator("#toast").get_by_role("button", name="Undo").click()
    back = [(choice.name, choice.weight, choice.enabled) for choice in stack(page)]
    assert back == [("ink", 0.5, True), ("paper cut", 1.0, False), ("bare", 1.0, True)]


def test_what_does_not_fit_is_told_before_and_after_and_a_row_that_fails_is_muted_by_click(
    page: Page,
) -> None:
    page.locator("#loras .add").click()
    entries = page.locator(".lora-picker .entries li")
    expect(entries.first).to_contain_text("ink")
    expect(entries.last).to_contain_text("is truncated, the last 9 bytes are missing")
    expect(entries.last.get_by_role("button")).to_have_count(0)
    entries.filter(has_text="grand").get_by_text("Use anyway").click()
    expect(row(page, "grand").locator(".note.warn")).to_contain_text("Made for SDXL")
    assert stack(page) == (LoraChoice(name="grand"),)
    expect(row(page, "grand").locator(".note.warn")).to_have_text("12 of 264 layers matched")

    fill(page, "prompt", "a hill <lora:gone:0.5:0.8> by day")
    advice = page.locator("#field-prompt .advice")
    expect(advice).to_contain_text("gone")
    page.get_by_role("button", name="Mute grand").click()
    advice.get_by_role("button").click()
    expect(page.locator("#input-prompt")).to_have_value("a hill  by day")
    assert names(page) == ["grand", "gone"]
    expect(row(page, "gone").locator(".note.warn")).to_have_text("There is no LoRA called gone.")
    generate(page)
    wrong = row(page, "gone").locator(".wrong-row")
    expect(wrong).to_contain_text("Row 2 of the LoRAs: Unknown LoRA 'gone'")
    expect(page.locator("#problem")).to_contain_text("Row 2 of the LoRAs")
    wrong.get_by_role("button", name="Mute this row").click()
    expect(wrong).to_be_hidden()
    expect(page.locator("#problem")).to_be_empty()
    grand, gone = stack(page)
    assert not grand.enabled
    assert gone == LoraChoice(name="gone", weight=0.8, text_encoder_weight=0.5, enabled=False)

    row(page, "gone").get_by_role("button", name="More for gone").click()
    row(page, "gone").get_by_role("spinbutton", name="Until (% of the steps)").fill("0")
    expect(wrong).to_contain_text("must start before it ends")


def test_a_card_tells_what_is_known_and_puts_trigger_words_into_the_prompt_once(
    page: Page,
) -> None:
    fill(page, "prompt", "a hill, ")
    add(page, "ink")
    row(page, "ink").get_by_role("button", name="ink", exact=True).click()
    card = page.locator("dialog.lora-card")
    for fact in ("SD 1", "text encoder, UNet", "meadow.safetensors", "styles/ink.safetensors"):
        expect(card).to_contain_text(fact)
    expect(card.locator("code").first).to_have_text(re.compile(r"^[0-9a-f]{10}$"))
    expect(card.locator("code").last).to_have_text(re.compile(r"^[0-9a-f]{12}$"))
    for _ in range(2):
        card.get_by_role("button", name="lines (fine)").click()
        card.get_by_role("button", name="ink drawing").click()
    expect(page.locator("#input-prompt")).to_have_value(r"a hill, lines \(fine\), ink drawing")
    page.keyboard.press("Escape")
    expect(row(page, "ink").get_by_role("button", name="ink", exact=True)).to_be_focused()


def test_a_lora_made_for_a_fraction_of_its_strength_is_put_in_with_it(page: Page) -> None:
    def listing(route: Route) -> None:
        cards = [card(1) | {"strength": 0.125}, card(2)]
        body = json.dumps({"folder": "loras", "loras": cards})
        route.fulfill(body=body, content_type="application/json")

    page.route("**/loras", listing)
    for name, strength in (("style 1", "0.125"), ("style 2", "1")):
        add(page, name)
        box = row(page, name).get_by_role("spinbutton", name=f"Strength of {name}")
        expect(box).to_have_value(strength)


def test_one_of_a_thousand_is_found_by_its_trigger_word_while_typing(page: Page) -> None:
    def many(route: Route) -> None:
        listing: dict[str, Any] = {"folder": "loras", "loras": [card(n) for n in range(MANY)]}
        route.fulfill(body=json.dumps(listing), content_type="application/json")

    page.route("**/loras", many)
    page.locator("#loras .add").click()
    entries = page.locator(".lora-picker .entries li")
    expect(entries).to_have_count(60)
    page.locator(".lora-picker").get_by_role("button", name="Show more").click()
    expect(entries).to_have_count(120)
    drawn = page.evaluate(
        """() => {
            const box = document.querySelector(".lora-picker input");
            const watch = new MutationObserver(() => {});
            watch.observe(document.querySelector(".lora-picker .entries"), { childList: true });
            return ["w", "wo", "wor", "word", "word 7", "word 77", "word 777"].map((text) => {
                box.value = text;
                box.dispatchEvent(new Event("input"));
                return watch.takeRecords().reduce((sum, one) => sum + one.addedNodes.length, 0);
            });
        }"""
    )
    expect(entries).to_have_count(1)
    # With each letter no more than are shown at first.
    assert (max(drawn), drawn[-1]) == (60, 1)
    page.locator(".lora-picker input").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#loras .lora-row .name")).to_have_text("style 777")


def card(n: int) -> dict[str, Any]:
    facts = dict.fromkeys(("alias", "trained_on", "strength", "problem"))
    name = f"style {n}"
    file = f"{name}.safetensors"
    kind = {"family": "SD 1", "kind": "lora", "rank": 16, "alpha": 8.0, "parts": ["unet"]}
    words = {"triggers": [f"word {n}", "another"]}
    return facts | kind | words | {"name": name, "path": name, "file": file, "size": 9_400_000}

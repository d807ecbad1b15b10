from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browsing import fill, new_context, opened
from tests.ui.served import Served
from webui.ui.texts import Catalogue

pytestmark = pytest.mark.browser

CATALOGUE = Catalogue.load()
SHOWN_WORDS = """() => [...document.querySelectorAll("#easel *")].flatMap((element) => [
  ...[...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()),
  ...["aria-label", "title", "placeholder", "alt"].map((name) => element.getAttribute(name)),
]).filter(Boolean)"""

CLIPPED = """() => [...document.querySelectorAll("#easel :is(button, label, summary, legend)")]
  .filter((element) => element.checkVisibility() && !element.matches(".unseen")
    && getComputedStyle(element).display !== "inline"
    && element.scrollWidth > element.clientWidth + 1)
  .map((element) => element.textContent)"""


def choose(page: Page, language: str) -> None:
    with page.expect_navigation():
        page.locator("#language").select_option(language)
    page.wait_for_selector("body[data-job]", state="attached")


def test_choosing_a_language_changes_every_word_and_keeps_what_was_typed(page: Page) -> None:
    fill(page, "prompt", "a lighthouse")
    fill(page, "steps", "7")
    fill(page, "seed", "11")
    expect(page.locator("#generate")).to_contain_text("Generate")
    choose(page, "de")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("#generate")).to_contain_text("Generieren")
    expect(page.locator("#language")).to_have_value("de")
    expect(page.locator("#label-steps")).to_have_text("Schritte")
    for name, value in (("prompt", "a lighthouse"), ("steps", "7"), ("seed", "11")):
        expect(page.locator(f"#input-{name}")).to_have_value(value)
    # It is kept for the next visit, too.
    page.reload()
    expect(page.locator("#generate")).to_contain_text("Generieren")


@pytest.mark.parametrize("language", ["de", "es"])
def test_no_english_word_of_the_catalogue_is_left_on_the_page(page: Page, language: str) -> None:
    choose(page, language)
    page.locator("#more > summary").click()
    page.locator(".presets-open").click()
    page.locator("[role=option]").first.click()
    expect(page.locator(".presets tbody")).not_to_have_count(0)
    page.keyboard.press("Escape")
    page.locator("#brief").click()
    expect(page.locator(".brief [role=tab]")).to_have_count(6)
    page.keyboard.press("Escape")
    page.locator("#to-history").click()
    expect(page.locator(".bar .count")).not_to_be_empty()
    words = CATALOGUE.of(language).words
    same = set(words.values())
    english = {text for text in CATALOGUE.of("en").words.values() if text not in same}
    seen = set(page.evaluate(SHOWN_WORDS))
    assert len(seen & same) > 80
    # The language's own name stands in the list of languages.
    assert (seen & english) - {"English"} == set()
    assert [text for text in seen if text in words] == []


def test_the_running_job_speaks_the_chosen_language(page: Page) -> None:
    fill(page, "steps", "60")
    # The job must outlast the page that is loaded anew.
    fill(page, "count", "8")
    page.locator("#generate").click()
    expect(page.locator(".headline")).to_contain_text("per step")
    choose(page, "de")
    headline = page.locator(".headline")
    expect(headline).to_have_text(
        re.compile(r"Schritt \d+ von 60 · 0,\d\d\ss pro Schritt · noch \d.*s")
    )
    expect(page.locator("#stop")).to_contain_text("Stopp")
    page.locator("#stop").click()
    expect(headline).to_have_text(re.compile(r"Gestoppt nach \d+"))


@pytest.mark.parametrize(
    ("locale", "language"), [("es-MX", "es"), ("de-AT", "de"), ("fr-FR", "en"), ("en-US", "en")]
)
def test_the_first_visit_is_in_the_language_of_the_browser(
    chromium: Browser, fake: Served, locale: str, language: str
) -> None:
    context = new_context(chromium, locale=locale)
    page = opened(context.new_page(), fake)
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("#stop")).to_have_text(
        re.compile(re.escape(CATALOGUE.of(language)("act.stop")))
    )
    context.close()


@pytest.mark.parametrize("language", ["en", "de", "es"])
def test_buttons_and_tabs_have_room_for_their_words_on_a_phone(
    chromium: Browser, fake: Served, language: str
) -> None:
    context = new_context(chromium, viewport={"width": 390, "height": 844}, locale=language)
    page = opened(context.new_page(), fake)
    page.locator("#more > summary").click()
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#brief").click()
    expect(page.locator(".brief [role=tab]")).to_have_count(6)
    assert page.evaluate(CLIPPED) == []
    footer = page.locator(".brief footer button")
    heights = {round(box["height"]) for box in (b.bounding_box() for b in footer.all()) if box}
    assert len(heights) == 1
    context.close()

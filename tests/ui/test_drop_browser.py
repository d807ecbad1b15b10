from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import JSHandle, Locator, Page, expect

from tests.fakes import gradient, png
from tests.ui.browsing import answered_otherwise, fill, generate, opened, request_in, shown
from tests.ui.served import Served
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

HOSTILE = '<img src="x" onerror="window.hit = 1">${window.hit = 2}'
INFOTEXT = (
    "a quiet lake, {prompt} mist\n"
    "Negative prompt: fog\n"
    "Steps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 42,"
    " Size: 320x192, Model: elsewhere, Clip skip: 2, Hires upscale: 2"
)


def foreign(infotext: str) -> bytes:
    """A PNG as A1111 writes it."""
    text = PngInfo()
    text.add_text("parameters", infotext)
    buffer = io.BytesIO()
    gradient(64, 48, 1).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def carried(page: Page, name: str, data: bytes, kind: str = "image/png") -> JSHandle:
    """A file as a drag or the clipboard carries it."""
    script = """([name, text, type]) => {
      const carrier = new DataTransfer();
      const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
      carrier.items.add(new File([bytes], name, { type }));
      return carrier;
    }"""
    return page.evaluate_handle(script, [name, base64.b64encode(data).decode(), kind])


def drop(page: Page, name: str, data: bytes) -> Locator:
    """Drops a file on the page; gives the sheet of differences."""
    page.dispatch_event("#field-steps", "drop", {"dataTransfer": carried(page, name, data)})
    return page.locator("dialog.comparison")


def row(sheet: Locator, field: str) -> Locator:
    return sheet.locator("tr", has=sheet.page.locator(f"[data-field={field}]"))


def test_an_own_picture_brings_exactly_its_request(page: Page, fake: Served) -> None:
    fill(page, "prompt", "a hill, {prompt} here")
    page.get_by_text("More settings").click()
    for field, value in {"width": "320", "steps": "3", "cfg": "7.5", "seed": "11"}.items():
        fill(page, field, value)
    page.locator("#input-sampler").select_option("Heun")
    generate(page)
    picture = shown(page)
    fresh = page.context.new_page()
    opened(fresh, fake)
    fresh.evaluate("sessionStorage.clear()")
    opened(fresh, fake)
    sheet = drop(fresh, "mine.png", picture)
    expect(sheet.get_by_role("heading", name="The recipe of mine.png")).to_be_visible()
    expect(sheet.locator(".report")).to_be_hidden()
    fresh.keyboard.press("Enter")
    expect(sheet).to_be_hidden()
    expect(fresh.locator("#toast")).to_contain_text("The recipe is on the page")
    generate(fresh)
    assert request_in(shown(fresh)) == request_in(picture)
    assert request_in(picture).sampler == "Heun"


def test_a_foreign_picture_is_taken_with_a_report(page: Page) -> None:
    sheet = drop(page, "foreign.png", foreign(INFOTEXT))
    expect(sheet.get_by_role("heading", name="foreign.png, as A1111 writes it")).to_be_visible()
    report = sheet.locator(".report")
    expect(report).to_contain_text("The model 'elsewhere' is not here: none was taken over.")
    expect(report).to_contain_text("Hires upscale")
    expect(row(sheet, "steps").locator("td")).to_have_text(["model's own", "12"])
    expect(row(sheet, "model")).to_have_count(0)
    sheet.locator("[data-field=seed]").uncheck()
    sheet.locator(".primary").click()
    expect(sheet).to_be_hidden()
    fill(page, "seed", "1")
    generate(page)
    made = request_in(shown(page))
    assert (made.prompt, made.negative_prompt) == ("a quiet lake, {prompt} mist", "fog")
    assert (made.steps, made.cfg, made.schedule, made.seed) == (12, 6.5, "karras", 1)
    assert (made.width, made.height, made.model) == (320, 192, "postcard")


def test_what_the_model_has_no_use_for_is_shown_and_not_applied(page: Page) -> None:
    def refuse(answer: Any) -> None:
        for model in answer["models"]:
            model["hidden"] = ["loras"]

    answered_otherwise(page, "shelf", refuse)
    page.reload()
    request = GenerationRequest.model_validate(
        {"steps": 9, "loras": [{"name": "ink", "weight": 0.5, "enabled": False}]}
    )
    sheet = drop(page, "with-loras.png", png(gradient(64, 64, 1), request))
    expect(row(sheet, "loras")).to_contain_text("ink 0.5 (off)")
    expect(row(sheet, "loras")).to_contain_text("Not usable here")
    expect(sheet.locator("[data-field=loras]")).to_be_disabled()
    sheet.get_by_role("button", name="Apply", exact=True).click()
    generate(page)
    assert request_in(shown(page)) == GenerationRequest(steps=9)


def test_what_is_no_picture_with_a_recipe_is_told_in_a_sentence(page: Page) -> None:
    toast = page.locator("#toast")
    for name, data, sentence in (
        ("notes.png", b"no picture", "The file is no picture of the kinds that are read"),
        ("drawing.png", b"<svg onload='window.hit = 1'/>", "The file is no picture"),
        ("empty.png", b"", "The file is empty."),
        ("plain.png", foreign(""), "This picture carries no recipe."),
    ):
        sheet = drop(page, name, data)
        expect(toast).to_contain_text(sentence)
        expect(sheet).to_be_hidden()
    assert page.evaluate("window.hit") is None


def test_a_dropped_preset_is_imported(page: Page) -> None:
    data = b'{"schema": 1, "name": "Dropped", "about": "", "request": {"steps": 6}}'
    drop(page, "dropped.json", data)
    sheet = page.locator("dialog.presets")
    expect(sheet.locator(".detail h3")).to_have_text("Dropped")
    expect(row(sheet, "steps").locator("td")).to_have_text(["model's own", "6"])
    drop(page, "broken.json", b"{")
    expect(sheet.locator(".report")).to_contain_text("broken.json: It is not valid JSON")


def test_text_in_pictures_stays_text(page: Page) -> None:
    fill(page, "prompt", "an old hill")
    infotext = f"{HOSTILE}\nSteps: 3, Seed: 1, Sampler: {HOSTILE}"
    sheet = drop(page, f"{HOSTILE}.png", foreign(infotext))
    expect(sheet.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(row(sheet, "prompt").locator("td").nth(1)).to_have_text(HOSTILE)
    expect(sheet.locator(".report")).to_contain_text("no sampler like '<img")
    page.keyboard.press("Enter")
    expect(page.locator("#input-prompt")).to_have_value(HOSTILE)
    assert page.evaluate("window.hit") is None
    expect(page.locator('img[src="x"]')).to_have_count(0)


def test_the_page_is_covered_while_files_are_dragged_over_it(page: Page) -> None:
    zone = page.locator("#drop")
    files = {"dataTransfer": carried(page, "a.png", b"")}
    words = {"dataTransfer": page.evaluate_handle("new DataTransfer()")}
    page.dispatch_event("#field-steps", "dragenter", words)
    expect(zone).to_be_hidden()
    page.dispatch_event("#field-steps", "dragenter", files)
    page.dispatch_event("#field-cfg", "dragenter", files)
    page.dispatch_event("#field-steps", "dragleave", files)
    expect(zone).to_be_visible()
    expect(zone).to_contain_text("Drop a picture")
    page.dispatch_event("#field-cfg", "dragleave", files)
    expect(zone).to_be_hidden()


def test_a_pasted_picture_is_read(page: Page) -> None:
    data = png(gradient(64, 64, 1), GenerationRequest(steps=9))
    board = carried(page, "image.png", data)
    script = """(element, clipboardData) => element.dispatchEvent(
      new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))"""
    page.locator("#input-prompt").evaluate(script, board)
    sheet = page.locator("dialog.comparison")
    expect(row(sheet, "steps").locator("td")).to_have_text(["model's own", "9"])


def test_a_pasted_infotext_is_offered_as_a_recipe(page: Page) -> None:
    prompt = page.locator("#input-prompt")
    prompt.fill("an old hill")
    prompt.select_text()
    script = """(element, text) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text/plain", text);
      const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
      if (element.dispatchEvent(event)) document.execCommand("insertText", false, text);
    }"""
    prompt.evaluate(script, INFOTEXT)
    expect(prompt).to_have_value(INFOTEXT)
    page.get_by_role("button", name="Read it as one").click()
    sheet = page.locator("dialog.comparison")
    expect(row(sheet, "prompt").locator("td").first).to_have_text("an old hill")
    page.keyboard.press("Enter")
    expect(prompt).to_have_value("a quiet lake, {prompt} mist")
    prompt.evaluate(script, ", a boat")
    expect(page.locator("#toast")).not_to_contain_text("whole recipe")


def test_why_a_picture_is_different_is_shown(page: Page) -> None:
    fill(page, "prompt", "a red boat on a lake")
    fill(page, "steps", "2")
    generate(page)
    fill(page, "prompt", "a blue boat on a lake")
    fill(page, "steps", "4")
    page.get_by_role("button", name="Why is this different?").click()
    sheet = page.locator("dialog.comparison")
    expect(sheet.locator("tbody tr:not(.group)")).to_have_count(2)
    expect(row(sheet, "prompt").locator("del")).to_have_text("blue")
    expect(row(sheet, "prompt").locator("ins")).to_have_text("red")
    sheet.locator("[data-field=prompt]").uncheck()
    sheet.get_by_role("button", name="Apply 1 of 2").click()
    expect(page.locator("#input-steps")).to_have_value("2")
    expect(page.locator("#input-prompt")).to_have_value("a blue boat on a lake")


def test_the_picture_in_the_sheet_is_the_one_that_was_dropped(page: Page) -> None:
    picture = Image.new("RGB", (30, 20))
    sheet = drop(page, "small.png", png(picture, GenerationRequest(steps=9)))
    expect(sheet.locator("img")).to_be_visible()
    assert sheet.locator("img").evaluate("image => image.naturalWidth") == 30

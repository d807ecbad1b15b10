"""The place where a picture is checked."""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.provenance.scenes import marked, recipe, saved_as, scene
from tests.provenance.scenes import opened as pixels_of
from tests.provenance.test_c2pa import foreign
from tests.ui.browsing import fill, generate, opened
from tests.ui.hostile import MARKUP, served_over
from tests.ui.served import Served
from tests.ui.test_drop_browser import carried
from webui.clearance import Cleared
from webui.library.files import PREFIX
from webui.provenance.c2pa import Signer
from webui.provenance.certificate import identity_in, new_identity
from webui.provenance.sign import sign

pytestmark = pytest.mark.browser

REFUSED = (
    ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit = 1'/>"),
    ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit = 1'/>"),
    ("page.jpg", b"<!doctype html><script>window.hit = 1</script>"),
    ("moving.gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
    ("both.png", b"GIF89a/*\x89PNG\r\n\x1a\n*/=1;window.hit=1"),
    ("empty.png", b""),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("check")


@pytest.fixture(scope="module")
def own(folder: Path) -> bytes:
    """A picture that this installation has signed."""
    signer = Signer(identity_in(folder / ".state"))
    return sign(Cleared(marked(scene(1)), 0), recipe(prompt="a hill"), signer).data


@pytest.fixture(scope="module")
def served(folder: Path, own: bytes) -> Generator[Served, None, None]:
    assert own
    served = served_over(folder)
    yield served
    served.kill()


def with_texts(**texts: str) -> bytes:
    """A PNG with these texts in it."""
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), "teal").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def check(page: Page, name: str, data: bytes) -> Locator:
    """Chooses a file; gives the row-wise part of what is found."""
    chooser = page.locator("#check input[type=file]")
    chooser.set_input_files({"name": name, "mimeType": "", "buffer": data})
    expect(page.locator("#check")).not_to_have_class("looking")
    return page.locator(".checked")


def layer(page: Page, name: str) -> Locator:
    return page.locator(f"[data-layer={name}]")


def expect_verdict(page: Page, verdict: str, sentence: str) -> None:
    card = page.locator(".verdict")
    expect(card).to_have_attribute("data-verdict", verdict)
    expect(card.locator("h2")).to_have_text(sentence)


def kept(folder: Path) -> set[str]:
    """All files that the server has written, but the shelves' lists.

    Those are written in the background, at any time after a page has asked for them.
    """
    state = folder / ".state"
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and not (path.parent == state and (path.suffix == ".json" or path.name.startswith(PREFIX)))
    }


def test_what_is_known_of_a_picture_is_said_and_what_is_not(
    context: BrowserContext, served: Served, folder: Path, own: bytes
) -> None:
    page = opened(context.new_page(), served, "/#check")
    before = kept(folder)
    check(page, "own.png", own)
    expect_verdict(page, "whole", "Made here, and unchanged since")
    expect(page.locator(".verdict")).to_be_focused()
    for name, state in (("credentials", "valid"), ("watermark", "found"), ("xmp", "valid")):
        expect(layer(page, name).locator(".state")).to_have_text(state)
    expect(layer(page, "xmp")).to_contain_text("made by AI")
    expect(layer(page, "ancestry")).to_contain_text("Made from text alone.")
    expect(layer(page, "ancestry")).to_contain_text("Nothing from outside")
    image = page.locator(".check-mat img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    assert (image.get_attribute("src") or "").startswith("blob:")

    check(page, "saved.jpg", saved_as("JPEG", pixels_of(own), 75))
    expect_verdict(page, "marked", "Made with Easel, and saved again or changed since")
    expect(layer(page, "credentials").locator(".state")).to_have_text("none")
    expect(layer(page, "ancestry").locator(".state")).to_have_text("not known")

    check(page, "theirs.png", foreign(new_identity()))
    expect_verdict(page, "other", "Signed by somebody who is not known here")
    expect(layer(page, "credentials")).to_contain_text("Names as the program: Paint 2")
    expect(layer(page, "credentials")).to_contain_text("drawn on a computer by a person")
    expect(page.locator(".verdict")).to_contain_text("nothing that it says is certain")

    check(page, "graph.png", with_texts(prompt="{}", workflow=MARKUP))
    expect_verdict(page, "claimed", "Only unsigned texts say how it was made")
    expect(layer(page, "recipe")).to_contain_text("ComfyUI")
    expect(page.get_by_role("button", name="Use this recipe")).to_have_count(0)

    check(page, "photo.jpg", saved_as("JPEG", scene(5), 90))
    expect_verdict(page, "unknown", "Nothing is known about it")
    expect(page.locator(".verdict")).to_contain_text("does not mean that no AI made it")
    assert kept(folder) == before


def test_no_other_file_is_looked_at_and_no_text_in_one_is_run(
    context: BrowserContext, served: Served, folder: Path
) -> None:
    page = opened(context.new_page(), served, "/#check")
    found = page.locator(".checked")
    for name, data in REFUSED:
        check(page, "good.png", with_texts())
        expect(found).to_be_visible()
        check(page, name, data)
        expect(found).to_be_hidden()
        problem = page.locator("#check .problem")
        expect(problem).to_have_text("The file is no picture that can be read: PNG, JPEG, WebP.")
    # What is both a picture and a page is a picture here, and nothing else.
    check(page, f"{MARKUP}.png", with_texts() + b"<script>window.hit = 1</script>")
    expect(found).to_contain_text(MARKUP)
    texts = with_texts(parameters=f"{MARKUP}\nSteps: 3, Seed: 1, Sampler: Euler, Model: {MARKUP}")
    check(page, "a.png", texts)
    expect(layer(page, "recipe")).to_contain_text(f"Model: {MARKUP}")
    expect(layer(page, "recipe")).to_contain_text("A1111")
    check(page, "b.png", foreign(new_identity(), assertions=(_claim(MARKUP),)))
    expect(layer(page, "credentials")).to_contain_text(MARKUP)
    assert page.evaluate("window.hit") is None
    expect(page.locator('img[src="x"]')).to_have_count(0)


def _claim(words: str) -> dict[str, object]:
    action = {"action": words, "digitalSourceType": words}
    return {"label": "c2pa.actions.v2", "data": {"actions": [action]}}


def test_pictures_come_by_drop_paste_and_from_what_was_made(
    context: BrowserContext, served: Served
) -> None:
    page = opened(context.new_page(), served)
    fill(page, "prompt", "a lake")
    fill(page, "steps", "2")
    generate(page)
    page.locator(".deeds").get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#to-check")).to_have_attribute("aria-selected", "true")
    expect_verdict(page, "claimed", "Only unsigned texts say how it was made")
    expect(layer(page, "recipe")).to_contain_text("own, with everything that made it")

    page.dispatch_event("#check", "drop", {"dataTransfer": carried(page, "a.png", with_texts())})
    expect_verdict(page, "unknown", "Nothing is known about it")
    expect(page.locator(".check-picture")).to_contain_text("a.png")
    files = {"dataTransfer": carried(page, "a.png", b"")}
    page.dispatch_event("#check", "dragenter", files)
    expect(page.locator("#drop")).to_contain_text("what is known of it is shown")
    page.dispatch_event("#check", "dragleave", files)

    parameters = "a tree\nSteps: 3, Seed: 1, Sampler: Euler, CFG scale: 4"
    board = carried(page, "pasted.png", with_texts(parameters=parameters))
    page.locator("body").evaluate(
        """(element, clipboardData) => element.dispatchEvent(
          new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))""",
        board,
    )
    expect(page.locator(".check-picture")).to_contain_text("pasted.png")
    page.get_by_role("button", name="Use this recipe").click()
    sheet = page.locator("dialog.comparison")
    expect(sheet.locator("[data-field=steps]")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page.locator("#input-steps")).to_have_value("3")

    page.locator("#to-history").click()
    page.locator("#history .tile").first.click()
    page.locator("dialog.picture").get_by_role("button", name="Check", exact=True).click()
    expect(layer(page, "recipe")).to_contain_text("own, with everything that made it")

    tabs = page.locator(".places [role=tab]")
    tabs.nth(3).press("ArrowRight")
    expect(tabs.nth(0)).to_be_focused()
    tabs.nth(0).press("ArrowLeft")
    expect(page.locator("#check")).to_be_visible()

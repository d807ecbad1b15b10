"""LoRAs, poses and masks on the real server with the embedded model, as a person uses them."""

from __future__ import annotations

import io
import re
from collections.abc import Generator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.ui.browsing import fill, generate, keep, new_context, opened, request_in, shown
from tests.ui.served import Served
from webui.postcard.limbs import limb_distances
from webui.postcard.scenes import Person
from webui.postcard.steering import magenta, white_edges

pytestmark = pytest.mark.browser

Pixels = NDArray[np.uint8]

WEARER = Person("standing", "red", "blue", "brown", False, 0)
STANDING = "a person in a red shirt and blue trousers standing in a meadow on a sunny day"
RED, GREEN = (215, 40, 40), (40, 150, 70)


@pytest.fixture
def page(real: Served, context: BrowserContext) -> Page:
    return opened(context.new_page(), real)


@pytest.fixture
def phone(real: Served, chromium: Browser) -> Generator[Page, None, None]:
    context = new_context(
        chromium, viewport={"width": 390, "height": 844}, has_touch=True, device_scale_factor=2
    )
    yield opened(context.new_page(), real)
    context.close()


def pixels(png: bytes) -> Pixels:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def add_lora(page: Page, words: str) -> None:
    page.locator("#loras .add").click()
    page.locator(".lora-picker").get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_have_count(0)


def strength(page: Page, name: str) -> Locator:
    return page.get_by_role("spinbutton", name=f"Strength of {name}")


def made(page: Page) -> Pixels:
    generate(page)
    return pixels(shown(page))


def test_a_stack_changes_the_look_and_a_slider_moves_it(page: Page) -> None:
    prompt = "a person in a green shirt in the snow at night, neon night style, paper cut style"
    fill(page, "prompt", prompt)
    fill(page, "seed", "4")
    plain = made(page)
    add_lora(page, "postcard-neon")
    whole = made(page)
    note = page.locator("#loras .lora-row").first.locator(".note")
    expect(note).to_have_text(re.compile(r"^(\d+) of \1 layers matched$"))
    expect(page.locator(".stages")).to_contain_text("text reused")
    strength(page, "postcard-neon").fill("0.5")
    half = made(page)
    expect(page.locator(".stages")).to_contain_text("text reused")
    assert magenta(plain) + 3 < magenta(half) < magenta(whole) - 3

    add_lora(page, "paper cut")
    both = made(page)
    assert white_edges(both) > white_edges(half) + 1
    page.get_by_role("button", name="More for postcard-neon").click()
    page.get_by_role("button", name="Compare strengths").first.click()
    drafts = page.locator(".drafts button")
    expect(drafts).to_have_count(5)
    for draft in drafts.all():
        expect(draft).to_be_enabled()
    keep(page, "loras")


def add_pose(page: Page, name: str) -> Locator:
    page.locator("#controls").get_by_role("button", name="Pose", exact=True).click()
    editor = page.locator("dialog.pose")
    editor.get_by_role("button", name=name, exact=True).click()
    return editor


def test_a_figure_stands_as_its_pose_was_drawn(page: Page) -> None:
    fill(page, "prompt", STANDING.replace(" standing", ""))
    fill(page, "seed", "2")
    plain = made(page)
    editor = add_pose(page, "Dancing")
    wrist = editor.locator(".figure.chosen").get_by_role("button", name="right wrist")
    wrist.focus()
    for _ in range(2):
        page.keyboard.press("Shift+ArrowUp")
    keep(page, "pose-editor")
    editor.get_by_role("button", name="Done").click()
    followed = made(page)
    hint = page.locator(".control-unit").get_by_role("button", name="Show the hint large")
    expect(hint.locator("img")).to_have_js_property("naturalWidth", 256)
    keep(page, "pose")
    pose = request_in(shown(page)).controls[0].pose
    assert pose is not None
    skeleton = np.array([(x, y) for x, y, _ in pose.people[0]])
    near, far = (limb_distances(image, skeleton, WEARER).mean() for image in (followed, plain))
    assert near < 0.08
    assert near < far / 2


def like(image: Pixels, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where a picture has about that colour."""
    return np.abs(image.astype(int) - colour).max(axis=-1) < 60


def paint(page: Page, where: NDArray[np.bool_]) -> None:
    """Covers those pixels with strokes of the open canvas, row by row."""
    canvas = page.locator("dialog.mask[open] canvas")
    expect(canvas).to_have_attribute("width", str(where.shape[1]))
    box = canvas.bounding_box()
    assert box is not None
    scale = box["width"] / where.shape[1]
    rows = np.flatnonzero(where.any(axis=1))
    for row in range(int(rows[0]), int(rows[-1]) + 1, 8):
        columns = np.flatnonzero(where[row])
        if not len(columns):
            continue
        page.mouse.move(box["x"] + columns[0] * scale, box["y"] + row * scale)
        page.mouse.down()
        page.mouse.move(box["x"] + columns[-1] * scale, box["y"] + row * scale, steps=4)
        page.mouse.up()


def test_a_shirt_is_painted_another_colour_and_nothing_else_changes(page: Page) -> None:
    fill(page, "prompt", STANDING)
    fill(page, "seed", "6")
    before = made(page)
    shirt = like(before, RED)
    page.get_by_role("button", name="Repaint a part").click()
    sheet = page.locator("dialog.mask[open]")
    expect(sheet).to_be_visible()
    page.wait_for_timeout(200)
    paint(page, shirt)
    keep(page, "mask")
    with page.expect_response(lambda answer: "kind=mask" in answer.url) as answered:
        sheet.get_by_role("button", name="Done").click()
    address = page.url.partition("#")[0].rstrip("/")
    name = answered.value.json()["id"]
    mask = np.asarray(
        Image.open(io.BytesIO(page.request.get(f"{address}/uploads/{name}.png").body()))
    )
    fill(page, "prompt", STANDING.replace("red", "green"))
    fill(page, "strength", "1")
    after = made(page)
    keep(page, "inpainting")
    request = request_in(shown(page))
    reach = round(2.5 * request.mask_blur + 0.5)
    inside = mask > 127
    square = np.ones((2 * reach + 1,) * 2, np.uint8)
    near = cv2.dilate(inside.astype(np.uint8), square) > 0
    assert (after[~near] == before[~near]).all()
    assert like(before, RED)[inside].mean() > 0.5
    assert like(after, RED)[inside].mean() < 0.1
    assert like(after, GREEN)[inside].mean() > 0.4


def test_all_of_it_can_be_used_on_a_phone(phone: Page) -> None:
    fill(phone, "prompt", "a person in a yellow shirt on a beach at sunset, neon night style")
    fill(phone, "seed", "3")
    add_lora(phone, "postcard-neon")
    phone.locator("#loras").scroll_into_view_if_needed()
    keep(phone, "phone-loras")
    editor = add_pose(phone, "Waving")
    keep(phone, "phone-pose")
    editor.get_by_role("button", name="Done").click()
    generate(phone)
    assert len(request_in(shown(phone)).controls) == 1
    phone.get_by_role("button", name="Repaint a part").click()
    expect(phone.locator("dialog.mask[open]")).to_be_visible()
    phone.wait_for_timeout(200)
    keep(phone, "phone-mask")
    phone.locator("dialog.mask[open]").get_by_role("button", name="Cancel").click()
    assert phone.evaluate("document.documentElement.scrollWidth") == 390

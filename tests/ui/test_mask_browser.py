"""The picture to start from in the page, and the canvas on which its mask is painted."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, Request, expect

from tests.fakes import gradient
from tests.fakes import png as png_with
from tests.ui.browsing import fill, generate, new_context, opened, request_in, shown
from tests.ui.served import Served
from tests.ui.test_axe_browser import violations
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 640, 480


def picture(width: int = WIDTH, height: int = HEIGHT, seed: int = 1) -> bytes:
    file = io.BytesIO()
    gradient(width, height, seed).save(file, "PNG")
    return file.getvalue()


def bring(page: Page, data: bytes | None = None) -> None:
    """Chooses a file as the picture to start from, and waits until it is shown."""
    file = FilePayload(name="a.png", mimeType="image/png", buffer=data or picture())
    page.locator("#start input[type=file]").set_input_files(file)
    expect(page.locator("#field-init img")).to_be_visible()
    expect(page.locator("#input-mask")).to_be_enabled()


_AT_REST = """async () => {
  const canvas = document.querySelector("dialog.mask[open] canvas");
  const box = () => JSON.stringify(canvas.getBoundingClientRect());
  const before = box();
  for (let frames = 0; frames < 3; frames += 1) await new Promise(requestAnimationFrame);
  return box() === before;
}"""
"""A line that comes or goes beside the canvas moves it, and with it what a place is painted by."""


@dataclass
class Canvas:
    """The open canvas; places are pixels of the picture."""

    page: Page

    @property
    def sheet(self) -> Locator:
        return self.page.locator("dialog.mask[open]")

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.sheet.locator("canvas").bounding_box()
        assert box is not None
        scale = box["width"] / int(self.sheet.locator("canvas").get_attribute("width") or 0)
        return box["x"] + x * scale, box["y"] + y * scale

    def draw(
        self, *places: tuple[float, float], button: Literal["left", "middle", "right"] = "left"
    ) -> None:
        mouse = self.page.mouse
        self.page.wait_for_function(_AT_REST)
        mouse.move(*self.at(*places[0]))
        mouse.down(button=button)
        for place in places[1:]:
            mouse.move(*self.at(*place), steps=5)
        mouse.up(button=button)

    def slide(self, name: str, share: float) -> None:
        self.sheet.get_by_role("slider", name=name).fill(str(share))

    def press(self, name: str) -> None:
        self.sheet.get_by_role("button", name=name).click()

    def painted(self) -> NDArray[np.uint8]:
        """What is painted now: height x width, 0..255."""
        self.page.evaluate("() => new Promise(requestAnimationFrame)")
        address: str = self.sheet.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as painted:
            return np.asarray(painted.getchannel("A"))

    def done(self) -> NDArray[np.uint8]:
        """The mask as it lies on the server."""
        with self.page.expect_response(lambda answer: "kind=mask" in answer.url) as answered:
            self.press("Done")
        expect(self.sheet).to_have_count(0)
        return mask_of(self.page, answered.value.json()["id"])


def canvas(page: Page) -> Canvas:
    page.locator("#input-mask").click()
    expect(page.locator("dialog.mask[open] .softly")).to_be_attached()
    expect(page.locator("dialog.mask[open] canvas")).not_to_have_attribute("width", "300")
    page.wait_for_timeout(100)
    return Canvas(page)


def mask_of(page: Page, name: str) -> NDArray[np.uint8]:
    address = page.url.partition("#")[0].rstrip("/")
    answer = page.request.get(f"{address}/uploads/{name}.png")
    with Image.open(io.BytesIO(answer.body())) as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


def asked(page: Page) -> GenerationRequest:
    """The request that travels now."""
    fill(page, "steps", "1")
    generate(page)
    return request_in(shown(page))


def bounds(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def test_what_is_painted_is_the_mask_to_the_pixel(page: Page) -> None:
    bring(page)
    sheet = canvas(page)
    sheet.slide("Size", 0.3)
    size = int((sheet.sheet.locator("output").first.text_content() or "").split()[0])
    sheet.draw((200, 150), (400, 150))
    painted = sheet.painted()
    assert bounds(painted) == pytest.approx(
        (200 - size / 2, 150 - size / 2, 400 + size / 2, 150 + size / 2), abs=1.5
    )
    # Crisp: but for the smoothed edge there is nothing between.
    assert np.isin(painted, (0, 255)).mean() > 0.995

    # The eraser, the right button and Alt take away what lies under them.
    sheet.press("Eraser")
    sheet.draw((300, 150), (301, 150))
    sheet.press("Brush")
    sheet.draw((350, 150), (351, 150), button="right")
    page.keyboard.down("Alt")
    sheet.draw((250, 150), (251, 150))
    page.keyboard.up("Alt")
    erased = sheet.painted()
    assert [erased[150, x] for x in (250, 300, 350, 225)] == [0, 0, 0, 255]
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert (sheet.painted() == painted).all()
    page.keyboard.press("Control+Shift+z")
    assert sheet.painted()[150, 300] == 0
    sheet.press("Undo")

    # A straight line with Shift, from where the last stroke ended.
    sheet.draw((100, 400), (101, 400))
    page.keyboard.down("Shift")
    sheet.draw((500, 400), (500, 401))
    page.keyboard.up("Shift")
    assert sheet.painted()[400, 110:490].min() == 255
    sheet.press("Undo")
    sheet.press("Undo")

    sheet.press("Invert")
    assert (sheet.painted() == 255 - painted).all()
    sheet.press("Invert")
    sheet.press("Outline an area")
    sheet.draw((500, 300), (600, 300), (600, 400), (500, 400), (500, 300))
    whole = sheet.painted()
    assert (whole[305:395, 505:595] == 255).all()
    assert whole[350, 480] == 0
    mask = sheet.done()
    assert mask.shape == (HEIGHT, WIDTH)
    assert (mask == whole).all()
    assert np.array_equal(mask, mask_of(page, asked(page).mask or ""))


def test_a_zoomed_canvas_is_painted_where_the_pointer_is(page: Page) -> None:
    bring(page)
    sheet = canvas(page)
    sheet.slide("Size", 0.2)
    page.mouse.move(*sheet.at(500, 100))
    for _ in range(5):
        page.mouse.wheel(0, -200)
    # Moved by the middle button, and with the space bar.
    before = sheet.at(500, 100)
    sheet.draw((500, 100), (490, 110), button="middle")
    after = sheet.at(500, 100)
    assert (after[0] - before[0], after[1] - before[1]) != (0, 0)
    page.keyboard.down("Space")
    sheet.draw((500, 100), (503, 102))
    page.keyboard.up("Space")
    assert sheet.painted().max() == 0, "moving the picture does not paint"
    size = int((sheet.sheet.locator("output").first.text_content() or "").split()[0])
    sheet.draw((500, 100), (500.2, 100))
    left, top, right, bottom = bounds(sheet.painted())
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((500, 100), abs=1)
    assert right - left == pytest.approx(size, abs=2)
    # By keyboard: the brush goes to the right and is set down.
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert bounds(sheet.painted())[2] == pytest.approx(right + size / 2, abs=2)
    for key in ("]", "]"):
        page.keyboard.press(key)
    assert int((sheet.sheet.locator("output").first.text_content() or "").split()[0]) > size
    sheet.press("All of it")
    assert bounds(sheet.done())[0] == left


def test_a_soft_brush_says_what_it_needs_and_keeps_its_edge(page: Page) -> None:
    bring(page)
    sheet = canvas(page)
    sheet.slide("Size", 0.5)
    sheet.slide("Softness", 0.8)
    expect(sheet.sheet.locator(".softly")).to_be_visible()
    # However often it is gone over, a soft edge stays as soft.
    sheet.draw((300, 240), (310, 240))
    once = sheet.painted()
    sheet.draw((300, 240), (310, 240))
    assert np.abs(once.astype(int) - sheet.painted()).max() <= 1
    row = once[240, :305].astype(int)
    assert (np.diff(row) >= 0).all()
    assert ((row > 20) & (row < 235)).sum() > 20
    mask = sheet.done()
    assert (mask == once).all()
    page.locator("#field-mask").get_by_role("button", name="Switch it on").click()
    expect(page.locator("#field-mask .remark")).to_be_hidden()
    made = asked(page)
    assert made.soft_mask
    page.get_by_text("More about the repainted part").click()
    expect(page.locator("#input-soft_mask")).to_be_checked()
    page.locator("#input-soft_mask").uncheck()
    assert not asked(page).soft_mask


def test_mask_and_margins_outlive_the_tab_and_go_with_the_picture(page: Page) -> None:
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.post_data else None)
    bring(page, picture(2048, 1536))
    sheet = canvas(page)
    # A mask that packs badly: many strokes.
    for at in range(12):
        sheet.draw((100 + 150 * at, 100), (200 + 140 * at, 1400))
    sheet.slide("Softness", 1)
    sheet.draw((100, 700), (1900, 800))
    mask = sheet.done()
    assert mask.shape == (1536, 2048)
    page.get_by_role("tab", name="History").click()
    page.get_by_role("tab", name="Create").click()
    fill(page, "prompt", "a hill")
    fill(page, "strength", "0.6")
    page.locator("#input-inpaint_area").select_option("masked")
    expect(page.locator("#field-inpaint_padding")).to_be_visible()
    fill(page, "inpaint_padding", "64")
    page.get_by_text("More about the repainted part").click()
    fill(page, "mask_blur", "9")
    fill(page, "mask_grow", "-3")
    page.locator("#input-inpaint_fill").select_option("colour")
    page.reload()
    expect(page.locator("#input-mask")).to_have_text("Change the mask")
    expect(page.locator("#input-mask")).to_be_enabled()
    sheet = canvas(page)
    page.wait_for_timeout(200)
    assert (sheet.painted() == mask).all()
    sheet.press("Done")
    page.get_by_role("button", name="Extend it").click()
    page.locator("#input-outpaint-right").fill("24")
    page.locator("#input-outpaint-top").fill("13")
    page.locator("#input-outpaint-top").blur()
    expect(page.locator("#input-outpaint-top")).to_have_value("16")

    made = asked(page)
    assert np.array_equal(mask_of(page, made.mask or ""), mask)
    wanted = made.model_copy(
        update={
            "strength": 0.6,
            "inpaint_area": "masked",
            "inpaint_padding": 64,
            "mask_blur": 9,
            "mask_grow": -3,
            "inpaint_fill": "colour",
            "outpaint": (0, 16, 24, 0),
        }
    )
    assert made == wanted
    joined = [request.post_data or "" for request in sent if "queue/join" in request.url]
    assert 0 < max(map(len, joined)) < 4096

    # All that was about the picture goes with it in one step, and comes back in one.
    page.get_by_role("button", name="Start without a picture").click()
    expect(page.locator("#input-strength")).to_have_count(0)
    assert asked(page) == GenerationRequest(prompt="a hill", steps=1)
    page.get_by_role("button", name="Undo").click()
    assert asked(page) == made
    page.get_by_role("button", name="Remove the mask").click()
    assert asked(page).mask is None


def test_margins_in_one_click_grow_the_picture(page: Page) -> None:
    bring(page)
    page.get_by_role("button", name="Extend it").click()
    page.get_by_role("button", name="Wider").click()
    expect(page.locator("#start .size")).to_have_text("640 \u00d7 480 → 800 \u00d7 480")
    expect(page.locator("#input-width")).to_have_attribute("placeholder", "800")
    assert asked(page).outpaint == (80, 0, 80, 0)
    page.get_by_role("button", name="All round").click()
    assert asked(page).outpaint == (160, 64, 160, 64)
    page.locator("#field-outpaint").get_by_role("button", name="None").click()
    # Where the size is given it holds the margins.
    fill(page, "width", "320")
    fill(page, "height", "320")
    page.get_by_role("button", name="Taller").click()
    made = asked(page)
    assert (made.outpaint, made.width, made.height) == ((0, 40, 0, 40), 320, 400)
    # Only what will be in the picture can be painted: it is cut on both sides.
    sheet = canvas(page)
    box = sheet.sheet.locator(".work").bounding_box()
    assert box is not None
    assert box["height"] / box["width"] == pytest.approx(400 / 320, rel=0.02)
    sheet.draw((320, 240), (322, 240))
    left, top, right, bottom = bounds(sheet.painted())
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((321, 240), abs=2)
    page.keyboard.press("Escape")
    # What was not taken over is not lost either.
    page.get_by_role("button", name="Go on painting").click()
    assert bounds(sheet.painted()) == (left, top, right, bottom)
    sheet.press("Clear")
    sheet.press("Done")
    expect(sheet.sheet).to_have_count(0)
    assert asked(page).mask is None
    page.get_by_role("button", name="Use its own size").click()
    made = asked(page)
    assert (made.width, made.height) == (None, None)


def test_a_picture_is_pasted_dropped_or_sent(page: Page, tmp_path: Path) -> None:
    board = page.evaluate_handle(
        """([bytes]) => {
          const board = new DataTransfer();
          board.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          return board;
        }""",
        [list(png_with(gradient(64, 96, 1), GenerationRequest(steps=9)))],
    )
    event = """(element, board) => element.dispatchEvent(
      new ClipboardEvent("paste", { clipboardData: board, bubbles: true, cancelable: true }))"""
    page.locator("body").evaluate(event, board)
    expect(page.locator("#start .size")).to_have_text("64 \u00d7 96")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#field-init")).to_have_count(0)
    # A dropped one is read for its recipe, and can be started from as well.
    drop = """(element, dataTransfer) => element.dispatchEvent(
      new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }))"""
    page.locator("body").evaluate(drop, board)
    page.locator("dialog.comparison").get_by_role("button", name="Start from it").click()
    expect(page.locator("#start .size")).to_have_text("64 \u00d7 96")

    # From the viewer and from History, at once with the canvas open.
    first = asked(page)
    page.locator(".caption").get_by_role("button", name="Repaint a part").click()
    expect(page.locator("dialog.mask[open]")).to_be_visible()
    sheet = Canvas(page)
    expect(sheet.sheet.locator("canvas")).to_have_attribute("width", "256")
    sheet.draw((100, 100), (120, 120))
    sheet.done()
    second = asked(page)
    assert second.mask
    assert second.init not in (None, first.init)
    page.get_by_role("tab", name="History").click()
    page.locator("#history .tile").first.click()
    recipe = page.locator("dialog.picture .recipe").first
    expect(recipe).to_contain_text(second.mask[:8])
    expect(recipe).not_to_contain_text("Outpaint")
    page.keyboard.press("Escape")
    page.locator("#history .tile").last.click()
    page.locator("dialog.picture").get_by_role("button", name="Repaint a part").click()
    expect(page.locator("dialog.mask[open]")).to_be_visible()
    page.keyboard.press("Escape")
    third = asked(page)
    assert third.mask is None, "a mask belongs to the picture it was painted on"


def test_a_mask_that_came_without_its_picture_goes_with_a_click(page: Page) -> None:
    stored = GenerationRequest(mask="ab" * 32, inpaint_area="masked").model_dump_json()
    page.evaluate("stored => sessionStorage.setItem('easel.desk', stored)", stored)
    page.reload()
    expect(page.locator("#problem")).to_contain_text("A mask needs an init picture")
    page.locator("#start").get_by_role("button", name="Leave it out").click()
    expect(page.locator("#problem")).to_be_empty()
    assert asked(page) == GenerationRequest(steps=1)
    # A picture that is not here any more can be told from one that is loading.
    gone = GenerationRequest(init="ab" * 32, mask="cd" * 32).model_dump_json()
    page.evaluate("stored => sessionStorage.setItem('easel.desk', stored)", gone)
    page.reload()
    page.wait_for_timeout(600)
    expect(page.locator("#field-init")).to_contain_text("not here any more")
    expect(page.locator("#field-mask")).to_contain_text("not here any more")
    # A mask of another shape than the picture is told, too.
    bring(page)
    sheet = canvas(page)
    sheet.draw((100, 100), (200, 100))
    sheet.done()
    bring_beneath(page, picture(300, 480))
    expect(page.locator("#field-mask .remark")).to_contain_text("of another shape")
    page.get_by_role("button", name="Remove the mask").click()
    expect(page.locator("#field-mask .remark")).to_be_hidden()


def bring_beneath(page: Page, data: bytes) -> None:
    """Another picture under the mask there is, as a recipe put together by hand has it."""
    address = page.url.partition("#")[0].rstrip("/")
    page.evaluate(
        """async ([address, bytes]) => {
          const body = new Uint8Array(bytes);
          const answer = await fetch(`${address}/uploads`, { method: "POST", body });
          const { id } = await answer.json();
          const stored = JSON.parse(sessionStorage.getItem("easel.desk"));
          sessionStorage.setItem("easel.desk", JSON.stringify({ ...stored, init: id }));
        }""",
        [address, list(data)],
    )
    page.reload()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_canvas_keeps_nobody_out(
    fake: Served, chromium: Browser, width: int, scheme: Literal["light", "dark"]
) -> None:
    context = new_context(
        chromium,
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
        has_touch=width < 500,
    )
    page = opened(context.new_page(), fake)
    bring(page)
    page.get_by_role("button", name="Extend it").click()
    page.get_by_role("button", name="Wider").click()
    page.get_by_text("More about the repainted part").click()
    assert violations(page) == []
    sheet = canvas(page)
    sheet.slide("Softness", 0.5)
    assert violations(page) == []
    assert page.evaluate("document.querySelector('dialog.mask').scrollWidth") <= width
    if width < 500:
        fingers(page, sheet)
    context.close()


def fingers(page: Page, sheet: Canvas) -> None:
    """One finger paints; a second one takes that back, and both zoom."""
    touch: Any = page.context.new_cdp_session(page)

    def send(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    x, y = sheet.at(200, 200)
    send("touchStart", (x, y))
    send("touchMove", (x + 20, y))
    send("touchEnd")
    assert sheet.painted()[200, 200] > 200
    once = sheet.painted()
    before = sheet.at(400, 200)[0] - sheet.at(200, 200)[0]
    x, y = sheet.at(300, 350)
    send("touchStart", (x, y))
    send("touchMove", (x + 10, y))
    send("touchStart", (x + 10, y), (x + 60, y))
    send("touchMove", (x, y), (x + 110, y))
    send("touchEnd")
    assert (sheet.painted() == once).all()
    assert sheet.at(400, 200)[0] - sheet.at(200, 200)[0] > 1.5 * before

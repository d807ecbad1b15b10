"""Poses and pictures that steer: what goes into the request, and what is said of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.fakes import gradient, jpeg
from tests.ui.browsing import answered_otherwise, fill, generate, opened, request_in, shown
from tests.ui.served import Served
from webui.request import ControlChoice

pytestmark = pytest.mark.browser

PICTURE: Any = {"name": "hill.jpg", "mimeType": "image/jpeg", "buffer": jpeg(gradient(96, 64, 3))}


def units(page: Page) -> Locator:
    return page.locator(".control-unit")


def add_picture(page: Page, count: int) -> Locator:
    """Chooses a picture; gives its unit, the `count`-th there then is."""
    with page.expect_file_chooser() as chooser:
        page.locator("#controls").get_by_role("button", name="Picture", exact=True).click()
    chooser.value.set_files(PICTURE)
    expect(units(page)).to_have_count(count)
    return units(page).nth(count - 1)


def add_pose(page: Page) -> Locator:
    """Adds somebody who stands, as the first unit; gives it."""
    page.locator("#controls").get_by_role("button", name="Pose", exact=True).click()
    page.locator("dialog.pose").get_by_role("button", name="Done").click()
    return units(page).first


def unfold(unit: Locator) -> None:
    unit.get_by_role("button", name="More settings").click()


def kind(unit: Locator) -> Locator:
    return unit.get_by_label("What the picture is taken for")


def made(page: Page) -> tuple[ControlChoice, ...]:
    """The control units in the picture that is made now."""
    generate(page)
    return request_in(shown(page)).controls


def test_poses_and_pictures_steer_and_their_hints_are_shown(page: Page) -> None:
    fill(page, "steps", "2")
    fill(page, "width", "384")
    fill(page, "height", "256")
    posed = add_pose(page)
    expect(posed.locator(".skeleton circle").first).to_be_visible()
    expect(posed.get_by_role("slider", name="Weight")).to_be_focused()
    posed.get_by_role("spinbutton", name="Weight").fill("0.7")
    pictured = add_picture(page, 2)
    expect(pictured.locator(".source img")).to_have_js_property("naturalWidth", 96)
    # Of those that a ControlNet is here for, canny needs no weights.
    expect(kind(pictured)).to_have_value("canny")
    unfold(pictured)
    expect(pictured.get_by_label("ControlNet").locator("option:checked")).to_have_text(
        "auto: canny small"
    )
    upper = pictured.get_by_role("spinbutton", name="Upper threshold")
    expect(upper).to_have_attribute("placeholder", "200")
    upper.fill("150")
    pictured.get_by_role("spinbutton", name="From (% of the steps)").fill("25")
    pictured.get_by_label("Other shape").select_option("fill up")
    one, other = made(page)
    assert (one.kind, one.weight, one.picture) == ("pose", 0.7, None)
    assert one.pose is not None
    assert (one.pose.width, one.pose.height, len(one.pose.people)) == (384, 256, 1)
    assert (other.kind, other.high, other.start, other.end) == ("canny", 150, 0.25, 1)
    assert (other.resize, other.low, other.preprocessor, other.model) == ("fill", None, None, None)
    assert other.picture is not None

    for unit in (posed, pictured):
        hint = unit.get_by_role("button", name="Show the hint large")
        expect(hint.locator("img")).to_have_js_property("naturalWidth", 384)
    hint.click()
    expect(page.locator("dialog.light img")).to_have_js_property("naturalWidth", 384)
    page.keyboard.press("Escape")
    kind(pictured).select_option("Depth")
    expect(pictured.locator(".hint")).to_be_hidden()
    expect(upper).to_have_count(0)
    expect(posed.locator(".hint")).to_be_visible()


def test_a_unit_is_switched_off_removed_and_brought_back(page: Page) -> None:
    fill(page, "steps", "1")
    posed, pictured = add_pose(page), add_picture(page, 2)
    weight = pictured.get_by_role("spinbutton", name="Weight")
    weight.fill("1.3")
    off = pictured.get_by_role("button", name="Switch off")
    off.click()
    expect(weight).to_have_value("0")
    assert [control.weight for control in made(page)] == [1, 0]
    expect(posed.locator(".hint")).to_be_visible()
    expect(pictured.locator(".hint")).to_be_hidden()
    off.click()
    expect(weight).to_have_value("1.3")

    posed.get_by_role("button", name="Remove").click()
    expect(units(page)).to_have_count(1)
    expect(kind(units(page))).to_have_value("canny")
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(units(page)).to_have_count(2)
    expect(posed.locator(".skeleton")).to_be_visible()
    assert [control.weight for control in made(page)] == [1, 1.3]

    posed.get_by_role("button", name="Edit the pose").click()
    page.locator("dialog.pose").get_by_role("button", name="Add a person").click()
    page.locator("dialog.pose").get_by_role("button", name="Done").click()
    expect(posed.get_by_role("button", name="Edit the pose")).to_be_focused()
    pose = made(page)[0].pose
    assert pose is not None
    assert len(pose.people) == 2


def test_a_result_and_a_pasted_picture_become_controls(page: Page) -> None:
    fill(page, "steps", "1")
    generate(page)
    page.get_by_role("button", name="Use as control").click()
    expect(units(page)).to_have_count(1)
    expect(units(page).locator(".source img")).to_have_js_property("naturalWidth", 256)
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(units(page)).to_have_count(0)

    board = page.evaluate_handle(
        """(text) => {
          const board = new DataTransfer();
          const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
          board.items.add(new File([bytes], "image.jpg", { type: "image/jpeg" }));
          return board;
        }""",
        base64.b64encode(PICTURE["buffer"]).decode(),
    )
    page.locator("#controls").get_by_role("button", name="Picture", exact=True).evaluate(
        """(element, clipboardData) => element.dispatchEvent(
          new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))""",
        board,
    )
    expect(units(page).locator(".source img")).to_have_js_property("naturalWidth", 96)
    expect(page.locator("dialog[open]")).to_have_count(0)
    (pasted,) = made(page)
    assert pasted.kind == "canny"


def test_what_is_missing_is_said_before_it_is_used(page: Page) -> None:
    unit = add_picture(page, 1)
    notes = unit.locator(".notes")
    expect(notes).to_be_empty()
    kind(unit).select_option("Pose")
    expect(notes).to_contain_text("put body_pose_model.safetensors into")
    expect(notes).to_contain_text(".models/annotators")
    notes.get_by_role("button", name="Use the picture as it is").click()
    expect(notes).to_be_empty()
    unfold(unit)
    expect(unit.get_by_label("Preprocessor").locator("option:checked")).to_have_text(
        "none: it is a hint"
    )
    expect(unit.get_by_role("spinbutton", name="Resolution")).to_be_hidden()
    other = unit.get_by_label("ControlNet").locator("option", has_text="grand depth")
    expect(other).to_have_text("grand depth (other models)")
    expect(other).to_be_disabled()
    kind(unit).select_option("Depth")
    expect(notes).to_contain_text("No ControlNet of this kind fits the model")
    expect(notes).to_contain_text(".models/controlnet")
    kind(unit).select_option("Other")
    expect(notes).to_contain_text("Choose a ControlNet under More settings")
    unit.get_by_label("ControlNet").select_option("canny small")
    expect(notes).to_be_empty()
    expect(page.locator(".control-none")).to_be_hidden()
    fill(page, "steps", "1")
    (control,) = made(page)
    assert (control.kind, control.model, control.preprocessor) == ("other", "canny small", None)


def test_a_unit_that_fails_is_marked_and_can_be_removed(page: Page, fake: Served) -> None:
    add_pose(page)
    add_picture(page, 2)
    page.evaluate(
        """() => {
          const desk = JSON.parse(sessionStorage.getItem("easel.desk"));
          desk.controls[1].model = "lost one";
          desk.steps = 1;
          sessionStorage.setItem("easel.desk", JSON.stringify(desk));
        }"""
    )
    opened(page, fake)
    expect(units(page)).to_have_count(2)
    generate(page)
    wrong = units(page).nth(1).locator(".wrong-unit")
    expect(wrong).to_contain_text("Unknown ControlNet 'lost one'")
    expect(units(page).nth(0).locator(".wrong-unit")).to_have_count(0)
    wrong.get_by_role("button", name="Remove").click()
    expect(units(page)).to_have_count(1)
    assert len(made(page)) == 1

    unfold(units(page))
    units(page).get_by_role("spinbutton", name="Until").fill("0")
    expect(wrong).to_have_count(0)
    expect(units(page).locator(".wrong-unit")).to_contain_text("must start before it ends")
    units(page).get_by_role("spinbutton", name="Until").fill("80")
    expect(units(page).locator(".wrong-unit")).to_have_count(0)


def test_the_panel_says_where_controlnets_belong_and_hides_where_none_can_be_used(
    page: Page, fake: Served
) -> None:
    answered_otherwise(page, "controlnets", _without_nets)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#controls")).to_contain_text("No ControlNet here steers postcard")
    expect(page.locator("#controls")).to_contain_text(".models/controlnet")

    add_pose(page)
    answered_otherwise(page, "shelf", _uncontrolled)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    # What is there can still be taken away.
    units(page).get_by_role("button", name="Remove").click()
    expect(page.locator("#controls")).to_be_hidden()


def test_a_model_that_reads_its_hint_itself_asks_for_one_and_shows_what_has_a_use(
    page: Page, fake: Served
) -> None:
    answered_otherwise(page, "controlnets", _reading_edges)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    panel = page.locator("#controls")
    expect(panel).to_contain_text("postcard follows a hint (Canny edges): add one control.")
    expect(panel.get_by_role("button", name="Pose", exact=True)).to_be_hidden()
    unit = add_picture(page, 1)
    expect(panel.get_by_role("button", name="Picture", exact=True)).to_be_disabled()
    expect(page.locator(".control-none")).to_be_hidden()
    expect(unit).to_contain_text("reads the hint itself")
    assert kind(unit).locator("option").all_inner_texts() == ["Canny edges"]
    unfold(unit)
    for name in ("Weight", "From (% of the steps)", "Until (% of the steps)"):
        expect(unit.get_by_role("spinbutton", name=name)).to_be_hidden()


def test_a_control_for_inpainting_says_that_it_needs_a_mask(page: Page, fake: Served) -> None:
    unit = add_picture(page, 1)
    expect(unit.locator(".notes")).to_be_empty()
    kind(unit).select_option("inpaint")
    expect(unit.locator(".notes")).to_contain_text("shown where the picture is painted anew")


def _reading_edges(answer: Any) -> None:
    _without_nets(answer)
    answer["own"] = ["canny"]
    answer["kinds"]["canny"]["net"] = "postcard"


def _without_nets(answer: Any) -> None:
    answer["nets"] = []
    for about in answer["kinds"].values():
        about["net"] = None


def _uncontrolled(answer: Any) -> None:
    for model in answer["models"]:
        model["hidden"] = ["controls"]


def test_a_preset_holds_a_pose_and_says_so_in_words(page: Page, tmp_path: Path) -> None:
    add_pose(page)
    unit = add_picture(page, 2)
    unit.get_by_role("spinbutton", name="Weight").fill("0.5")
    before = page.evaluate("JSON.parse(sessionStorage.getItem('easel.desk')).controls")
    page.locator(".presets-open").click()
    page.get_by_role("button", name="Save as…").click()
    form = page.locator("dialog.save-as")
    row = form.locator("tr", has=page.locator("[data-field=controls]"))
    expect(row.locator("td")).to_have_text(["none", "Pose 1 (1 person), Canny edges 0.5"])
    form.get_by_label("Name").fill("Somebody stands")
    page.keyboard.press("Enter")
    sheet = page.locator("dialog.presets")
    expect(sheet.locator(".detail h3")).to_have_text("Somebody stands")
    with page.expect_download() as downloading:
        sheet.get_by_role("button", name="Export").click()
    downloading.value.save_as(tmp_path / "preset.json")
    assert json.loads((tmp_path / "preset.json").read_text())["request"] == {"controls": before}
    page.keyboard.press("Escape")

    page.locator("#restore").click()
    expect(units(page)).to_have_count(0)
    page.locator(".presets-open").click()
    sheet.get_by_role("option", name="Somebody stands").click()
    row = sheet.locator("tr", has=page.locator("[data-field=controls]"))
    expect(row.locator("td").nth(1)).to_have_text("Pose 1 (1 person), Canny edges 0.5")
    sheet.get_by_role("button", name="Apply", exact=True).click()
    expect(units(page)).to_have_count(2)
    expect(units(page).first.locator(".skeleton")).to_be_visible()
    assert page.evaluate("JSON.parse(sessionStorage.getItem('easel.desk')).controls") == before


def test_the_panel_can_be_used_by_thumb(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    add_pose(page)
    unit = add_picture(page, 2)
    kind(unit).select_option("Pose")
    unfold(unit)
    for button in page.locator("#controls button:visible:not(.link)").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 32
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

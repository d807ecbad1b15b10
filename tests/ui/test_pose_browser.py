"""The pose editor, by mouse, finger and keyboard; what it gives is what is asserted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, CDPSession, Locator, Page, expect

from tests.ui.browsing import fill, generate, module, new_context, opened, request_in, shown
from tests.ui.served import Served
from tests.ui.test_axe_browser import violations
from webui.generation import poses as drawing
from webui.poses import JOINTS, MAX_PEOPLE, Pose

pytestmark = pytest.mark.browser

SIDE = 512
WRIST, ELBOW, SHOULDER = (JOINTS.index(f"right {name}") for name in ("wrist", "elbow", "shoulder"))
NECK = JOINTS.index("neck")

Person = list[list[Any]]


def edit(page: Page, pose: dict[str, Any] | None = None, **more: Any) -> Locator:
    """Opens the editor for a square picture, as the page's panel does."""
    script = """async (asked) => {
      const { editPose } = await import(asked.module);
      window.given = undefined;
      editPose(asked).then((pose) => { window.given = pose; });
    }"""
    asked = {"module": module(page, "poseeditor.js"), "pose": pose, "width": SIDE, "height": SIDE}
    page.evaluate(script, asked | more)
    sheet = page.locator("dialog.pose")
    expect(sheet.locator(".figure").first).to_be_visible()
    return sheet


def done(page: Page) -> Pose:
    """Closes the editor and gives what its caller was given, as the server would read it."""
    page.get_by_role("button", name="Done").click()
    page.wait_for_function("window.given !== undefined")
    return Pose.model_validate(page.evaluate("window.given"))


def people(page: Page) -> list[Person]:
    """What is drawn: x, y and whether it is seen, of each joint of each person."""
    return page.evaluate(
        """() => [...document.querySelectorAll("dialog.pose .stage .figure")].map((figure) =>
          [...figure.querySelectorAll(".joint")].map((dot) =>
            [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy")),
             !dot.classList.contains("away")]))"""
    )


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture is in the window."""
    box = page.locator("dialog.pose .work").bounding_box()
    assert box
    return box["x"] + x * box["width"] / SIDE, box["y"] + y * box["height"] / SIDE


def drag(page: Page, start: list[Any], by: tuple[float, float]) -> None:
    """Drags what lies at a point of the picture, with the mouse."""
    page.mouse.move(*place(page, start[0], start[1]))
    page.mouse.down()
    for share in (0.3, 0.7, 1):
        page.mouse.move(*place(page, start[0] + by[0] * share, start[1] + by[1] * share))
    page.mouse.up()


def lengths(person: Person) -> list[float]:
    return [math.dist(person[a][:2], person[b][:2]) for a, b in drawing.LIMBS]


def shifts(before: Person, after: Person) -> dict[int, tuple[float, float]]:
    """How far each joint has gone that is elsewhere now."""
    gone = {
        n: (b[0] - a[0], b[1] - a[1]) for n, (a, b) in enumerate(zip(before, after, strict=True))
    }
    return {n: by for n, by in gone.items() if math.hypot(*by) > 0.05}


def middle(a: list[Any], b: list[Any]) -> list[Any]:
    return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]


def test_the_editor_draws_as_the_engine_does(page: Page) -> None:
    found = page.evaluate(
        """async (address) => {
          const { ...body } = await import(address);
          return body;
        }""",
        module(page, "posebody.js"),
    )
    assert [name.replace("_", " ") for name in found["JOINTS"]] == list(JOINTS)
    assert [tuple(limb) for limb in found["LIMBS"]] == list(drawing.LIMBS)
    assert found["COLOURS"] == ["#{:02x}{:02x}{:02x}".format(*c) for c in drawing.COLOURS]
    assert (found["LIMB_SHADE"], found["STICK"]) == (drawing.LIMB_SHADE, drawing.STICK)
    assert found["MAX_PEOPLE"] == MAX_PEOPLE


def test_joints_and_limbs_are_dragged_by_mouse(page: Page) -> None:
    sheet = edit(page)
    (standing,) = people(page)
    assert all(0 < x < SIDE > y > 0 and seen for x, y, seen in standing)

    drag(page, standing[ELBOW], (-60, -70))
    (bent,) = people(page)
    assert set(shifts(standing, bent)) == {ELBOW, WRIST}
    assert lengths(bent) == pytest.approx(lengths(standing), abs=0.01)
    assert bent[ELBOW][1] < standing[ELBOW][1] - 30

    drag(page, middle(bent[ELBOW], bent[WRIST]), (20, 25))
    (moved,) = people(page)
    assert set(shifts(bent, moved)) == {ELBOW, WRIST}
    assert lengths(moved) == pytest.approx(lengths(standing), abs=0.01)

    sheet.get_by_role("button", name="Keep the lengths").click()
    drag(page, moved[WRIST], (-31, 17))
    (free,) = people(page)
    assert set(shifts(moved, free)) == {WRIST}
    assert shifts(moved, free)[WRIST] == pytest.approx((-31, 17), abs=0.6)
    drag(page, middle(free[SHOULDER], free[ELBOW]), (12, -9))
    (shifted,) = people(page)
    assert set(shifts(free, shifted)) == {SHOULDER, ELBOW}
    assert shifts(free, shifted)[ELBOW] == pytest.approx((12, -9), abs=0.6)

    for expected in (free, moved, bent, standing):
        page.keyboard.press("Control+z")
        assert people(page) == [expected]
    expect(sheet.get_by_role("button", name="Undo")).to_be_disabled()
    for _ in range(4):
        page.keyboard.press("Control+Shift+z")
    pose = done(page)
    assert (pose.width, pose.height) == (SIDE, SIDE)
    for point, drawn in zip(pose.people[0], shifted, strict=True):
        assert point == pytest.approx(tuple(drawn), abs=0.006)


def test_the_pose_that_was_drawn_is_in_the_request(page: Page) -> None:
    fill(page, "steps", "2")
    fill(page, "width", str(SIDE))
    fill(page, "height", str(SIDE))
    page.locator("#controls").get_by_role("button", name="Pose", exact=True).click()
    drag(page, people(page)[0][ELBOW], (-50, -60))
    (bent,) = people(page)
    page.get_by_role("button", name="Done").click()
    generate(page)
    (unit,) = request_in(shown(page)).controls
    assert unit.pose is not None
    for point, drawn in zip(unit.pose.people[0], bent, strict=True):
        assert point == pytest.approx(tuple(drawn), abs=0.006)

    page.get_by_role("button", name="Edit the pose").click()
    expect(page.locator("dialog.pose .work img")).to_be_visible()
    slider = page.get_by_role("slider", name="How much of the picture")
    slider.press("End")
    expect(page.locator("dialog.pose .work img")).to_have_css("opacity", "1")
    assert people(page)[0][ELBOW] == pytest.approx(bent[ELBOW], abs=0.006)


def test_people_are_moved_sized_turned_mirrored_and_removed(page: Page) -> None:
    sheet = edit(page)
    (first,) = people(page)
    drag(page, [first[NECK][0] - 30, first[10][1] - 20], (25, 14))
    (carried,) = people(page)
    assert set(shifts(first, carried)) == set(range(18))
    assert all(by == pytest.approx((25, 14), abs=0.6) for by in shifts(first, carried).values())

    handle = sheet.locator("rect.handle.nw").bounding_box()
    assert handle
    page.mouse.move(handle["x"] + 6, handle["y"] + 6)
    page.mouse.down()
    page.mouse.move(handle["x"] + 46, handle["y"] + 90, steps=3)
    page.mouse.up()
    (small,) = people(page)
    shares = [b / a for a, b in zip(lengths(carried), lengths(small), strict=True)]
    assert shares == pytest.approx([shares[0]] * 17)
    assert 0.5 < shares[0] < 0.95
    feet = max(y for _, y, _ in carried)
    assert max(y for _, y, _ in small) == pytest.approx(feet, abs=8), "the other corner stays"

    turner = sheet.locator("circle.handle").bounding_box()
    assert turner
    page.mouse.move(turner["x"] + 6, turner["y"] + 6)
    page.mouse.down()
    page.mouse.move(turner["x"] + 96, turner["y"] + 40, steps=3)
    page.mouse.up()
    (leaning,) = people(page)
    assert lengths(leaning) == pytest.approx(lengths(small), abs=0.01)
    assert leaning[0][0] > small[0][0] + 15

    sheet.get_by_role("button", name="Mirror").click()
    (mirrored,) = people(page)
    axis = leaning[NECK][0] + mirrored[NECK][0]
    left_wrist = JOINTS.index("left wrist")
    assert mirrored[left_wrist] == pytest.approx(
        [axis - leaning[WRIST][0], leaning[WRIST][1], True]
    )

    sheet.get_by_role("button", name="Duplicate").click()
    sheet.get_by_role("button", name="Add a person").click()
    assert len(people(page)) == 3
    expect(sheet.locator(".figure.chosen")).to_have_count(1)
    sheet.get_by_role("button", name="Running").click()
    running = people(page)
    assert running[:2] == [mirrored, running[1]]
    assert running[2][JOINTS.index("left knee")][0] > running[2][JOINTS.index("right knee")][0]
    page.keyboard.press("[")
    page.keyboard.press("Delete")
    assert people(page) == [running[0], running[2]]
    sheet.get_by_role("button", name="As it was at first").click()
    assert people(page) == [first]
    expect(sheet.get_by_role("button", name="Remove the person")).to_be_disabled()
    page.keyboard.press("Control+z")
    assert len(done(page).people) == 2


def test_a_pose_is_given_up_only_on_purpose(page: Page) -> None:
    wide = {
        "width": 256,
        "height": 128,
        "people": [[[n * 8.0, n * 6.0, n != 3] for n in range(18)]],
    }
    sheet = edit(page, wide)
    (fitted,) = people(page)
    assert fitted[10] == [160.0, 248.0, True], "in the middle of the square, twice as large"
    assert not fitted[3][2]
    page.keyboard.press("Escape")
    page.wait_for_function("window.given === null")

    sheet = edit(page, wide)
    sheet.get_by_role("button", name="Jumping").click()
    page.keyboard.press("Escape")
    expect(sheet.get_by_role("status")).to_contain_text("Esc again")
    expect(sheet).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.wait_for_function("window.given === null")


def test_a_pose_is_made_by_keyboard_alone(page: Page) -> None:
    sheet = edit(page)
    (before,) = people(page)
    whole = sheet.get_by_role("button", name="Person 1, move")
    whole.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    (moved,) = people(page)
    assert shifts(before, moved)[NECK] == pytest.approx((1, 10))
    sheet.get_by_role("button", name="Keep the lengths").press("Enter")

    names: list[str] = []
    whole.focus()
    for _ in range(2 + len(JOINTS)):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert names[2:] == list(JOINTS)

    wrist = sheet.get_by_role("button", name="right wrist")
    wrist.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    assert shifts(moved, people(page)[0]) == {WRIST: pytest.approx((-3, -10))}
    page.keyboard.press("h")
    expect(sheet.get_by_role("status")).to_have_text("Hidden: right wrist")
    expect(sheet.get_by_role("button", name="right wrist, hidden")).to_be_focused()
    sheet.get_by_role("button", name="right elbow").press("Delete")
    sheet.get_by_role("button", name="right elbow, hidden").press(" ")
    sheet.get_by_role("button", name="right wrist, hidden").press("Control+z")

    sheet.get_by_role("button", name="Size of person 1").press("ArrowUp")
    sheet.get_by_role("button", name="Turn person 1").press("Shift+ArrowRight")
    sheet.get_by_role("button", name="Add a person").press("Enter")
    page.keyboard.press("]")
    expect(sheet.get_by_role("status")).to_have_text("Person 1 of 2")
    expect(whole).to_be_focused()
    assert violations(page) == []
    pose = done(page)
    assert [seen for _, _, seen in pose.people[0]] == [n not in (WRIST, ELBOW) for n in range(18)]
    hip, ankle = pose.people[0][8], pose.people[0][10]
    assert hip[0] - ankle[0] > 15, "turned by ten degrees"


class Fingers:
    """Touches of a real touch screen."""

    def __init__(self, page: Page) -> None:
        self.session: CDPSession = page.context.new_cdp_session(page)

    def send(self, kind: str, *spots: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(spots)]
        # Part of the function's own signature is untyped.
        send: Any = cast(Any, self.session).send
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_pose_is_made_by_fingers_on_a_phone(fake: Served, chromium: Browser) -> None:
    context = new_context(
        chromium, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark"
    )
    page = opened(context.new_page(), fake)
    sheet = edit(page)
    stage = sheet.locator(".stage").bounding_box()
    assert stage
    assert stage["height"] > 844 / 2
    fingers = Fingers(page)
    (before,) = people(page)
    x, y = place(page, *before[WRIST][:2])
    # A finger beside the joint is enough.
    fingers.send("touchStart", (x - 12, y + 9))
    fingers.send("touchMove", (x - 30, y - 20))
    fingers.send("touchMove", (x - 62, y - 31))
    fingers.send("touchEnd")
    (pulled,) = people(page)
    assert set(shifts(before, pulled)) == {WRIST}
    assert lengths(pulled) == pytest.approx(lengths(before), abs=0.01)

    x, y = place(page, *pulled[WRIST][:2])
    fingers.send("touchStart", (x, y))
    page.wait_for_timeout(1_500)
    fingers.send("touchEnd")
    (held,) = people(page)
    assert held[WRIST] == [*pulled[WRIST][:2], False]

    width = sheet.locator(".work").bounding_box()
    x, y = place(page, *held[ELBOW][:2])
    fingers.send("touchStart", (x, y))
    fingers.send("touchMove", (x - 40, y))
    fingers.send("touchStart", (x - 40, y), (x + 80, y))
    fingers.send("touchMove", (x - 60, y), (x + 120, y))
    fingers.send("touchEnd")
    assert people(page) == [held], "a second finger takes back what the first one has begun"
    wider = sheet.locator(".work").bounding_box()
    assert width
    assert wider
    assert wider["width"] == pytest.approx(1.5 * width["width"], rel=0.05)

    sheet.get_by_role("button", name="Kneeling").tap()
    assert violations(page) == []
    assert len(done(page).people) == 1
    context.close()


def body_25() -> dict[str, Any]:
    """Somebody from OpenPose itself, to the knees, sure of little; on no canvas."""
    points = [[100 + 9.5 * n, 40 + 11.25 * n, 0.35 if n < 10 else 0] for n in range(25)]
    absent = [part for x, y, c in points for part in ((x, y, c) if c else (0, 0, 0))]
    return {"version": 1.3, "people": [{"pose_keypoints_2d": absent}]}


def test_files_of_poses_come_in_and_go_out(page: Page, tmp_path: Path) -> None:
    sheet = edit(page)
    chooser = sheet.locator("input[type=file]")
    numbers = [float(part) for n in range(18) for part in (n * 10 + 7, n * 13, n > 2)]
    person = {"pose_keypoints_2d": numbers}
    coco = {"people": [person], "canvas_width": SIDE, "canvas_height": SIDE}
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(coco))
    chooser.set_input_files(file)
    expect(sheet.locator(".figure .joint").nth(17)).to_have_attribute("cx", "177")
    assert people(page) == [[[n * 10 + 7, n * 13, n > 2] for n in range(18)]]

    page.keyboard.press("Control+z")
    file.write_text(json.dumps(body_25()))
    data = page.evaluate_handle(
        """(text) => {
          const carrier = new DataTransfer();
          carrier.items.add(new File([text], "pose.json", { type: "application/json" }));
          return carrier;
        }""",
        file.read_text(),
    )
    sheet.locator(".stage").dispatch_event("drop", {"dataTransfer": data})
    expect(sheet.locator(".figure .joint").nth(0)).to_have_attribute("cx", "100")
    (half,) = people(page)
    assert [seen for _, _, seen in half].count(True) == 9
    assert half[8][:2] == [185.5, 141.25]
    knee, ankle = half[9], half[10]
    assert not knee[2]
    assert math.dist(knee[:2], ankle[:2]) > 10, "what is not there can be taken hold of"

    with page.expect_download() as download:
        sheet.get_by_role("button", name="Export").click()
    out = tmp_path / "out.json"
    download.value.save_as(out)
    before = people(page)
    sheet.get_by_role("button", name="Arms up").click()
    assert people(page) != before
    chooser.set_input_files(out)
    expect(sheet.locator(".figure .joint").nth(0)).to_have_attribute("cx", "100")
    for one, other in zip(people(page)[0], before[0], strict=True):
        assert one == pytest.approx(other, abs=0.006)

    file.write_text("{}")
    chooser.set_input_files(file)
    expect(sheet.get_by_role("alert")).to_contain_text("no list of people")
    assert len(done(page).people) == 1

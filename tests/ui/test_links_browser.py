"""Links that carry a recipe in their fragment: copying and opening them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.ui.browsing import fill, generate, new_context, opened, shown
from tests.ui.links import fragment_of, packed, values_in
from tests.ui.listening import wired
from tests.ui.served import Served
from webui.poses import JOINTS
from webui.request import GenerationRequest, field_names
from webui.ui import front

pytestmark = pytest.mark.browser

POSE = {"width": 512, "height": 768, "people": [[[8 * n, n, True] for n in range(len(JOINTS))]]}
PICTURE = "a" * 64
VALUES: dict[str, Any] = {
    "prompt": "a hill, {prompt} «山» & <b>mist</b>",
    "negative_prompt": "fog",
    "width": 320,
    "height": 192,
    "steps": 7,
    "cfg": 6.5,
    "guidance": 3.5,
    "sampler": "Heun",
    "schedule": "karras",
    "speed": "quick",
    "seed": 42,
    "count": 2,
    "batch": 3,
    "clip_skip": 2,
    "model": "elsewhere",
    "prediction": "v",
    "refiner": "finish",
    "refiner_start": 0.7,
    "vae": "soft",
    "loras": [{"name": "ink", "weight": 0.5, "start": 0.25, "enabled": False}],
    "controls": [{"pose": POSE, "weight": 0.5, "end": 0.75}],
    "init": PICTURE,
    "strength": 0.4,
    "mask": PICTURE,
    "mask_blur": 5,
    "mask_grow": -3,
    "soft_mask": True,
    "inpaint_area": "masked",
    "inpaint_padding": 40,
    "inpaint_fill": "noise",
    "outpaint": [8, 16, 24, 32],
}
REQUEST = GenerationRequest.model_validate(VALUES).model_dump(mode="json")


def with_request(page: Page, request: dict[str, Any]) -> Page:
    """The page with that recipe on it."""
    page.evaluate("text => sessionStorage.setItem('easel.desk', text)", json.dumps(request))
    page.reload()
    page.wait_for_selector("body[data-job]", state="attached")
    return page


def on_the_desk(page: Page) -> dict[str, Any]:
    return json.loads(page.evaluate("sessionStorage.getItem('easel.desk')"))


def copied(page: Page) -> str:
    """The link that has come into the clipboard."""
    expect(page.locator("#toast")).to_contain_text("The link is copied.")
    return page.evaluate("navigator.clipboard.readText()")


def sheet_of(page: Page) -> Locator:
    sheet = page.locator("dialog.comparison")
    expect(sheet.get_by_role("heading", name="The recipe in the link")).to_be_visible()
    return sheet


def follow(page: Page, fragment: str) -> None:
    """Another link is opened in the tab that is there already."""
    page.evaluate("fragment => { location.hash = fragment; }", fragment)


@pytest.fixture
def clipboard(context: BrowserContext) -> BrowserContext:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return context


def test_a_link_carries_every_field_but_pictures_and_no_server_hears_of_it(
    clipboard: BrowserContext, chromium: Browser, fake: Served
) -> None:
    assert set(VALUES) == set(field_names()), "every field must be of another value than usual"
    loras = [REQUEST["loras"][0] | {"name": "mine/inks/ink"}]
    with_picture = [{**REQUEST["controls"][0], "pose": None, "picture": PICTURE}]
    on_page = REQUEST | {"loras": loras, "controls": REQUEST["controls"] + with_picture}
    page = with_request(opened(clipboard.new_page(), fake), on_page)
    page.get_by_role("button", name="Copy a link to this recipe").click()
    link = copied(page)
    expect(page.locator("#toast")).to_contain_text("Pictures do not travel in a link")
    carried = {name: value for name, value in REQUEST.items() if name not in ("init", "mask")}
    assert values_in(link) == carried

    fragment = "#" + link.partition("#")[2]
    visitor = new_context(chromium, locale="en-GB")
    with wired(fake.port) as wire:
        other = visitor.new_page()
        other.goto(wire.address + "/" + fragment)
        sheet = sheet_of(other)
        assert other.evaluate("location.href") == wire.address + "/"
        assert other.evaluate("history.length") <= 2
        expect(sheet.locator(".report")).to_contain_text("'elsewhere' is not here")
        expect(sheet.locator("thead")).to_contain_text("Link")
        for box in sheet.locator("[data-field]:enabled:not(:checked)").all():
            box.check()
        blocked = sheet.locator("[data-field]:disabled")
        useless = set(blocked.evaluate_all("boxes => boxes.map((box) => box.dataset.field)"))
        sheet.locator("footer .primary").click()
        expect(sheet).to_be_hidden()
        taken = on_the_desk(other)
        left = {"model", *useless}
        assert {name: taken[name] for name in carried if name not in left} == {
            name: value for name, value in carried.items() if name not in left
        }
        # What the models here have no use for is told, and left alone.
        assert useless <= {"clip_skip", "guidance", "refiner", "refiner_start"}
        other.get_by_role("button", name="Undo").click()
        assert on_the_desk(other) == GenerationRequest().model_dump(mode="json")
        assert b"POST /read/link" in wire.sent
        assert fragment.partition("1.")[2].encode() not in wire.sent
        assert b"recipe=" not in wire.sent
    visitor.close()


def test_copies_are_of_the_page_of_a_picture_and_of_a_saved_one(
    clipboard: BrowserContext, fake: Served
) -> None:
    page = opened(clipboard.new_page(), fake)
    fill(page, "prompt", "a lake")
    fill(page, "steps", "2")
    fill(page, "seed", "42")
    generate(page)
    fill(page, "prompt", "a forest")
    fill(page, "seed", "")
    deed = page.locator(".deeds").get_by_role("button", name="Copy link")
    deed.click()
    made = {"prompt": "a lake", "steps": 2, "seed": 42}
    assert values_in(copied(page)) == made
    expect(page.locator("#toast")).not_to_contain_text("Pictures")

    page.evaluate("navigator.clipboard.writeText('')")
    page.locator("#to-history").click()
    page.locator("#history .tile").first.click()
    page.locator("dialog.picture").get_by_role("button", name="Copy link").click()
    page.wait_for_function("navigator.clipboard.readText()")
    assert values_in(copied(page)) == made
    page.keyboard.press("Escape")

    page.locator("#to-create").click()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy a link to this recipe").click()
    box = page.locator("dialog.link textarea")
    assert values_in(box.input_value()) == {"prompt": "a forest", "steps": 2}
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)


def test_what_is_too_long_is_left_out_and_said(clipboard: BrowserContext, fake: Served) -> None:
    number = 0

    def scattered() -> float:
        nonlocal number
        number = (number * 1_103_515_245 + 12_345) % 2**31
        return number / 2**20

    points = [[[scattered(), scattered(), True] for _ in JOINTS] for _ in range(16)]
    crowd = {"pose": POSE | {"people": points}}
    request = GenerationRequest.model_validate({"steps": 3, "controls": [crowd] * 2})
    page = opened(clipboard.new_page(), fake)
    with_request(page, request.model_dump(mode="json"))
    page.get_by_role("button", name="Copy a link to this recipe").click()
    assert values_in(copied(page)) == {"steps": 3}
    expect(page.locator("#toast")).to_contain_text("The poses made it too long")


def test_a_link_is_opened_on_the_page_that_is_there_whatever_is_in_it(
    context: BrowserContext, fake: Served
) -> None:
    page = opened(context.new_page(), fake, "/#history")
    toast, sheet = page.locator("#toast"), page.locator("dialog.comparison")
    before = GenerationRequest(steps=9, cfg=3).model_dump(mode="json")
    with_request(page, before)
    for fragment, sentence in (
        ("#recipe=", "This link is damaged"),
        ("#recipe=1.!!!", "This link is damaged"),
        ("#recipe=1", "This link is damaged"),
        (fragment_of({"steps": 3})[:-2], "This link is damaged"),
        (fragment_of([1]), "This link is damaged"),
        (fragment_of(None), "This link is damaged"),
        ("#recipe=1." + packed(b"{nonsense"), "This link is damaged"),
        ("#recipe=1." + packed(b"\xff\xfe{}"), "This link is damaged"),
        ("#recipe=1." + packed(b"[" * 30_000 + b"]" * 30_000), "This link is damaged"),
        ("#recipe=1." + packed(b" " * 10_000_000 + b"{}"), "This link is damaged"),
        ("#recipe=1." + "A" * 30_000, "This link is damaged"),
        ("#recipe=2." + packed(b"{}"), "made by another version"),
    ):
        page.evaluate("document.getElementById('toast').hidden = true")
        follow(page, fragment)
        expect(toast).to_contain_text(sentence)
        assert "#" not in page.url
        expect(sheet).to_be_hidden()
    assert on_the_desk(page) == before

    hostile = "<img src=x onerror='window.hit = 1'>"
    follow(page, fragment_of({"steps": 4, "level": 2, "init": PICTURE, hostile: 1, "cfg": 99}))
    report = sheet_of(page).locator(".report")
    for sentence in ("names a filter level", "no pictures", hostile, "at most 30"):
        expect(report).to_contain_text(sentence)
    # A field that the link names and that could not be read stays as it is on the page.
    expect(sheet.locator("tbody tr:not(.group)")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#input-steps")).to_have_value("4")
    assert on_the_desk(page) == before | {"steps": 4}
    # Neither in the recipe nor in what is asked with it is there a level.
    generate(page)
    assert b'"level"' not in shown(page)
    assert page.evaluate("window.hit") is None

    follow(page, fragment_of({}))
    expect(sheet_of(page).locator("[data-field=steps]")).to_be_checked()
    follow(page, "#history")
    expect(page.locator("#to-history")).to_have_attribute("aria-selected", "true")


def test_the_starting_page_keeps_what_the_link_carries(
    context: BrowserContext, fake: Served
) -> None:
    starting = front._starting_page()  # pyright: ignore[reportPrivateUsage]
    page = context.new_page()
    page.route(
        fake.address + "/",
        lambda route: route.fulfill(body=starting, content_type="text/html"),
        times=1,
    )
    page.goto(fake.address + "/" + fragment_of({"steps": 4}))
    expect(sheet_of(page).locator("[data-field=steps]")).to_be_checked()

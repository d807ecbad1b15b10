"""axe-core over every part of the page: what keeps people with a screen reader or bad sight out."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fakes import gradient, png
from tests.ui.browsing import fill, generate, new_context, opened
from tests.ui.served import Served
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

BAD = ("serious", "critical")


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical, with the places."""
    if not page.evaluate("'axe' in window"):
        # Half-way through a fade the colours are not those that people see.
        page.add_style_tag(content="* { transition: none !important; animation: none !important }")
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    # What passes is many times as much, and would be written down and sent here, too.
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run({resultTypes: ['violations']}).then((result) => result.violations)"
    )
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary')}"
        for rule in found
        if rule["impact"] in BAD
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_no_part_of_the_page_keeps_anybody_out(
    fake: Served, chromium: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    context = new_context(chromium, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened(context.new_page(), fake)
    fill(page, "steps", "2")
    fill(page, "prompt", "a hill ((")
    generate(page)
    assert violations(page) == []

    page.get_by_text("More settings").click()
    fill(page, "cfg", "29")
    fill(page, "width", "63")
    expect(page.locator("#problem")).not_to_be_empty()
    assert violations(page) == []
    fill(page, "width", "")

    for name in ("Presets", "Brief"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.locator("dialog[open]")).to_be_visible()
        page.wait_for_timeout(300)
        assert violations(page) == [], name
        page.keyboard.press("Escape")

    page.get_by_role("button", name="Why is this different?").click()
    expect(page.locator("dialog[open]")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")

    look_over_loras(page)
    look_over_controls(page)

    page.get_by_role("tab", name="History").click()
    expect(page.locator("#history img").first).to_be_visible()
    assert violations(page) == []

    page.get_by_role("tab", name="Check").click()
    assert violations(page) == []
    page.locator("#check input[type=file]").set_input_files(
        {
            "name": "a.png",
            "mimeType": "image/png",
            "buffer": png(gradient(64, 64, 1), GenerationRequest()),
        }
    )
    expect(page.locator(".verdict")).to_be_visible()
    assert violations(page) == []
    context.close()


def look_over_loras(page: Page) -> None:
    """The sheet, a card, and a stack of which one row is muted, one doubted and one failing."""
    fill(page, "prompt", "a hill <lora:ink> <lora:grand> <lora:gone>")
    page.locator("#field-prompt .advice button").click()
    expect(page.locator("#loras .lora-row")).to_have_count(3)
    page.get_by_role("button", name="Mute ink").click()
    page.get_by_role("button", name="More for ink").click()
    generate(page)
    expect(page.get_by_role("button", name="Mute this row")).to_be_visible()
    assert violations(page) == []
    page.locator("#loras .add").click()
    page.get_by_role("button", name="About ink", exact=True).click()
    expect(page.locator("dialog[open]")).to_have_count(2)
    page.locator(".lora-card .chip").first.click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert violations(page) == []
    page.keyboard.press("Escape")


def look_over_controls(page: Page) -> None:
    """A pose whose time is wrong, and pictures: one muted, one without what draws it."""
    controls, units = page.locator("#controls"), page.locator(".control-unit")
    controls.get_by_role("button", name="Pose", exact=True).click()
    page.locator("dialog.pose").get_by_role("button", name="Done").click()
    for count in (2, 3):
        page.get_by_role("button", name="Use as control").click()
        expect(units).to_have_count(count)
    units.nth(1).get_by_role("button", name="Switch off").click()
    units.nth(2).locator(".head select").select_option("Depth")
    expect(units.nth(2).locator(".warn").first).to_be_visible()
    for unit in units.all():
        unit.get_by_role("button", name="More settings").click()
    units.nth(0).get_by_role("spinbutton", name="Until").fill("0")
    expect(units.locator(".wrong-unit")).to_be_visible()
    assert violations(page) == []


def test_everything_can_be_reached_by_keyboard_and_the_focus_is_seen(page: Page) -> None:
    reached: list[str] = []
    page.locator("#to-create").focus()
    for _ in range(80):
        page.keyboard.press("Tab")
        where = page.evaluate(
            """() => {
                const at = document.activeElement;
                const style = getComputedStyle(at);
                const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                return [at.id || at.textContent.trim(), at === document.body || seen];
            }"""
        )
        if where[0] in reached:
            continue
        assert where[1], f"no outline on {where[0]}"
        reached.append(where[0])
    for wanted in (
        "language",
        "theme",
        "input-prompt",
        "generate",
        "input-model",
        "input-width",
        "input-steps",
        "input-cfg",
        "input-seed",
        "dice",
        "restore",
    ):
        assert wanted in reached

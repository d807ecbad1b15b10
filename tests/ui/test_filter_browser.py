"""The filter on the page: its levels, the ways to a grant, and the line of a shared page."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from typing import Any, Literal
from urllib.request import Request, urlopen

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.ui.browsing import fill, generate, new_context, opened, shown
from tests.ui.hostile import MARKUP
from tests.ui.served import Served
from tests.ui.test_axe_browser import violations

pytestmark = pytest.mark.browser

CODE = "ABCD2345EFGH6789"
ISSUER = "Studio Nord"
HOURS = 3600.0


@pytest.fixture(autouse=True)
def as_before(fake: Served) -> Iterator[None]:
    """Other tests find the gate as it was: it is the same one."""
    yield
    request = Request(f"{fake.address}/gate/script", b"{}", method="PUT")
    request.add_header("content-type", "application/json")
    urlopen(request, timeout=60).close()


def script(page: Page, fake: Served, **says: Any) -> None:
    """Has the gate say that from now on; grants and links of before are forgotten."""
    assert page.request.put(f"{fake.address}/gate/script", data=says).ok


def known(page: Page, fake: Served) -> dict[str, Any]:
    """The links that were printed, and the levels that jobs were asked with."""
    return page.request.get(f"{fake.address}/gate/script").json()


def badge(page: Page) -> Locator:
    return page.locator("#filter")


def sheet(page: Page, name: str) -> Locator:
    return page.locator(f"dialog.{name}")


def card(page: Page, level: str) -> Locator:
    return sheet(page, "filter").get_by_role("button", name=re.compile(f"^{level}"))


def reasons(page: Page, level: int) -> Locator:
    return page.locator(f"#held-{level}")


def is_chosen(page: Page, level: str) -> None:
    expect(badge(page)).to_have_accessible_name(f"Filter: {level}")


def toasted(page: Page) -> Locator:
    return page.locator("#toast")


def looks_again(page: Page) -> None:
    """What happens when somebody comes back to the tab."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def shared(*, owner: bool) -> dict[str, Any]:
    address = "https://0a1b2c.gradio.live" if owner else None
    return {
        "active": True,
        "address": address,
        "expires_at": time.time() + 2 * HOURS + 60,
        "owner": owner,
    }


def test_a_code_opens_levels_and_each_tab_asks_for_its_own(fake: Served, page: Page) -> None:
    script(page, fake, codes={CODE: 2})
    fill(page, "steps", "1")
    is_chosen(page, "Strict")
    badge(page).press("Enter")
    expect(card(page, "Strict")).to_have_attribute("aria-pressed", "true")
    expect(card(page, "Strict")).to_contain_text("For everyone. Nothing revealing.")
    expect(sheet(page, "filter")).to_contain_text("There is no “off”")
    card(page, "Mild").focus()
    page.keyboard.press("Enter")
    ways, code = sheet(page, "opening"), page.locator("#gate-code")
    expect(ways.get_by_role("heading", level=2)).to_have_text("Open “Mild”")
    code.fill("wrong code")
    page.keyboard.press("Enter")
    expect(page.locator("#code-wrong")).to_have_text("This code is not valid.")
    expect(code).to_have_attribute("aria-invalid", "true")
    expect(card(page, "Mild")).to_have_attribute("aria-pressed", "false")
    code.fill(f"  {CODE[:4].lower()} - {CODE[4:8]}-{CODE[8:].lower()} ")
    expect(page.locator("#code-wrong")).to_be_empty()
    ways.get_by_role("button", name="Redeem").press("Enter")
    expect(ways).to_be_hidden()
    expect(toasted(page)).to_have_text("Open for 4 h.")
    expect(card(page, "Mild")).to_have_attribute("aria-pressed", "true")
    expect(card(page, "Mild")).to_be_focused()
    grant = page.locator(".filter .grant")
    expect(grant).to_contain_text(
        "Open by an invitation · 4 h left · ends after 30 min without use"
    )
    page.keyboard.press("Escape")
    is_chosen(page, "Mild")

    # It outlives a reload; another tab begins at strict and has a level of its own.
    page.reload()
    is_chosen(page, "Mild")
    other = opened(page.context.new_page(), fake)
    is_chosen(other, "Strict")
    fill(other, "steps", "1")
    badge(other).click()
    card(other, "Art").click()
    other.keyboard.press("Escape")
    is_chosen(other, "Art")
    is_chosen(page, "Mild")
    generate(page)
    generate(other)
    assert known(page, fake)["asked"] == [1, 2]

    # Neither the recipe nor the picture knows of a level.
    with Image.open(io.BytesIO(shown(other))) as picture:
        assert "level" not in json.dumps(
            {str(key): str(text) for key, text in picture.info.items()}
        )
    desk = json.loads(other.evaluate("sessionStorage.getItem('easel.desk')"))
    assert "level" not in desk

    # Ending it reaches both tabs: one at once, the other with the next job.
    badge(page).click()
    page.get_by_role("button", name="End it now").click()
    expect(toasted(page)).to_have_text("The grant has ended: the filter is at “Strict” now.")
    expect(grant).to_be_hidden()
    is_chosen(page, "Strict")
    assert page.evaluate("sessionStorage.getItem('easel.level')") == "0"
    generate(other)
    expect(other.locator(".notices p")).to_have_text(
        "Made at the strict level: the grant has ended."
    )
    expect(other.locator(".notices")).to_be_in_viewport()
    is_chosen(other, "Strict")
    expect(toasted(other)).to_contain_text("The grant has ended")
    assert known(page, fake)["asked"] == [1, 2, 2]
    other.close()


def test_the_owners_link_asks_for_a_statement_and_works_once(fake: Served, page: Page) -> None:
    script(page, fake)
    badge(page).click()
    card(page, "Art").click()
    ways = sheet(page, "opening")
    ways.get_by_role("button", name="Print a link on the console").click()
    expect(ways.get_by_role("status")).to_contain_text("The link is on the console.")
    (token,) = known(page, fake)["links"]

    other = opened(page.context.new_page(), fake, f"/#owner={token}")
    assert token not in other.url
    statement = sheet(other, "statement")
    go_on = statement.get_by_role("button", name="Continue")
    tick = statement.get_by_role("checkbox", name="I am 18 or older")
    expect(tick).not_to_be_checked()
    expect(go_on).to_be_disabled()
    expect(statement).to_contain_text("This is a statement and proves nothing.")
    assert "verif" not in statement.inner_text().lower()
    other.keyboard.press("Enter")
    expect(statement).to_be_visible()
    tick.press("Space")
    go_on.press("Enter")
    expect(sheet(other, "filter").locator(".grant")).to_contain_text(
        "Open by a statement · 12 h left"
    )
    is_chosen(other, "Strict")

    # The tab that asked for the link has its level as soon as it is looked at.
    looks_again(page)
    expect(ways).to_be_hidden()
    is_chosen(page, "Art")

    # The link is used up, also where it is only pasted into an open page.
    other.keyboard.press("Escape")
    other.evaluate("token => { location.hash = `owner=${token}` }", token)
    expect(tick).not_to_be_checked()
    assert token not in other.url
    tick.check()
    go_on.click()
    expect(statement.get_by_role("alert")).to_have_text("This link is not valid any more.")
    expect(statement).to_be_visible()
    assert token not in json.dumps(other.evaluate("[{...sessionStorage}, {...localStorage}]"))
    other.close()

    # A grant that is over by itself is noticed by the page without being asked.
    script(page, fake, seconds=10)
    looks_again(page)
    is_chosen(page, "Strict")
    card(page, "Mild").click()
    ways.get_by_role("button", name="Print a link on the console").click()
    expect(ways.get_by_role("status")).not_to_be_empty()
    (token,) = known(page, fake)["links"]
    page.request.post(f"{fake.address}/gate/declare", data={"token": token})
    looks_again(page)
    is_chosen(page, "Mild")
    is_chosen(page, "Strict")
    expect(toasted(page)).to_contain_text("The grant has ended")


def test_what_keeps_a_level_shut_is_told_and_names_are_text(fake: Served, page: Page) -> None:
    script(page, fake, operator=1, missing={"text": "No model is there."}, issuer=MARKUP)
    badge(page).click()
    expect(card(page, "Art")).to_be_disabled()
    expect(reasons(page, 2)).to_contain_text("The settings of this installation do not open it.")
    expect(reasons(page, 2)).to_contain_text("python -m webui policy set max_level 2")
    expect(reasons(page, 2)).to_contain_text("Guards are missing: Text classifier.")
    expect(reasons(page, 1)).to_have_text("For adults: choose it to see the ways to open it.")
    guards = sheet(page, "filter").locator("details")
    guards.get_by_text("5 of 6 guards loaded").click()
    expect(guards.locator("li")).to_have_count(6)
    expect(guards.locator(".missing")).to_have_text("Text classifierNo model is there.")
    card(page, "Mild").click()
    login = sheet(page, "opening").get_by_role("button", name="Log in with")
    expect(login).to_have_text(f"Log in with {MARKUP}")
    assert page.evaluate("window.hit") is None

    # There and back, with and without a grant.
    login.click()
    expect(sheet(page, "filter").locator(".grant")).to_contain_text("Open by a login · 8 h left")
    assert page.url.endswith("/")
    card(page, "Mild").click()
    is_chosen(page, "Mild")
    script(page, fake, issuer=ISSUER, refuses=True)
    page.reload()
    is_chosen(page, "Strict")
    expect(toasted(page)).to_contain_text("The grant has ended")
    badge(page).click()
    card(page, "Art").click()
    login.click()
    expect(sheet(page, "filter").get_by_role("alert")).to_have_text(
        "The login did not open a level."
    )
    assert page.url.endswith("/")

    # A visitor over the share link.
    script(page, fake, elsewhere=True, shared=shared(owner=False))
    looks_again(page)
    for level in ("Mild", "Art"):
        expect(card(page, level)).to_be_disabled()
    expect(reasons(page, 1)).to_contain_text("Not over a share link or from another machine.")
    expect(reasons(page, 1)).to_contain_text("For adults: it also needs a grant.")
    expect(page.locator(".filter code")).to_have_count(0)
    page.keyboard.press("Escape")
    bar = page.locator("#share")
    expect(bar).to_have_text("This is a shared page: pictures are made at the strict level.")
    expect(bar.get_by_role("button")).to_have_count(0)


def test_the_owner_of_a_shared_page_sees_it_and_ends_it(fake: Served, page: Page) -> None:
    script(page, fake)
    looks_again(page)
    bar = page.locator("#share")
    expect(bar).to_be_hidden()
    script(page, fake, shared=shared(owner=True))
    looks_again(page)
    expect(bar).to_contain_text("https://0a1b2c.gradio.live")
    expect(bar).to_contain_text("2 h 1 min left")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    bar.get_by_role("button", name="Copy").click()
    expect(toasted(page)).to_have_text("The address is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "https://0a1b2c.gradio.live"
    stop = bar.get_by_role("button", name="Stop sharing")
    stop.press("Enter")
    expect(bar).to_contain_text("Everyone with the link loses the page at once.")
    keep = bar.get_by_role("button", name="Keep sharing")
    expect(keep).to_be_focused()
    assert violations(page) == []
    keep.press("Enter")
    expect(stop).to_be_focused()
    stop.dblclick()
    expect(bar).to_be_visible()
    stop.click()
    bar.get_by_role("group").get_by_role("button", name="Stop sharing").click()
    expect(toasted(page)).to_have_text("The page is not shared any more.")
    expect(bar).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_filter_keeps_nobody_out(
    fake: Served, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    context = new_context(
        chromium, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme
    )
    page = context.new_page()
    says = {"codes": {CODE: 1}, "issuer": ISSUER, "missing": {"text": "No model is there."}}
    script(page, fake, **says, shared=shared(owner=True))
    opened(page, fake)
    expect(badge(page)).to_be_in_viewport()
    expect(badge(page)).to_contain_text("Strict")
    assert violations(page) == []
    badge(page).tap()
    page.get_by_text("5 of 6 guards loaded").tap()
    card(page, "Mild").tap()
    page.locator("#gate-code").fill("wrong")
    page.get_by_role("button", name="Redeem").tap()
    expect(page.locator("#code-wrong")).not_to_be_empty()
    assert violations(page) == []
    page.set_viewport_size({"width": 1280, "height": 860})
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#gate-code").fill(CODE)
    page.get_by_role("button", name="Redeem").tap()
    is_chosen(page, "Mild")
    assert violations(page) == []
    sheet(page, "filter").get_by_role("button", name="Close").tap()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("location.hash = 'owner=any'")
    page.get_by_text("I am 18 or older").tap()
    expect(page.get_by_role("button", name="Continue")).to_be_enabled()
    assert violations(page) == []
    context.close()

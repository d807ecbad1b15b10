"""The place of models and LoRAs: found, told of, used, fetched."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.ui import library_files
from tests.ui.browsing import opened
from tests.ui.served import Served, start
from tests.ui.test_axe_browser import violations

pytestmark = pytest.mark.browser

GRAPHICS = "8"
"""GiB of the graphics card that the fake server believes in."""


def served_over(folder: Path, *more: str) -> Generator[Served, None, None]:
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.01", *more)
    served = start(arguments, log=folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    library_files.stock(folder / ".models")
    library_files.write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def stocked(folder: Path) -> Generator[Served, None, None]:
    yield from served_over(folder, GRAPHICS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    """With the built-in model alone, and a graphics card."""
    yield from served_over(tmp_path_factory.mktemp("bare"), GRAPHICS)


@pytest.fixture
def place(stocked: Served, context: BrowserContext) -> Page:
    return visited(context.new_page(), stocked)


def visited(page: Page, served: Served) -> Page:
    opened(page, served, "#library")
    expect(page.locator(".shelf > li").first).to_be_visible()
    return page


def tile(page: Page, name: str) -> Locator:
    return page.locator(".shelf > li").filter(has=page.get_by_text(name, exact=True))


def names(page: Page) -> list[str]:
    return page.locator(".shelf .name").all_inner_texts()


def get(page: Page, source: str) -> Locator:
    """Pastes a source into the box; gives what is found."""
    page.get_by_role("button", name="Get a model…").click()
    page.get_by_label("Hugging Face repository").fill(source)
    page.keyboard.press("Enter")
    return page.locator("dialog.get-model")


def test_everything_is_found_by_words_kind_and_order(place: Page) -> None:
    everything = names(place)
    assert everything[:2] in (["ink", "Meadow Photo v5"], ["Meadow Photo v5", "ink"]), "most used"
    assert set(everything[-3:]) == {"cut", "old painter", "half fetched"}, "broken ones last"
    place.get_by_role("searchbox", name="Search names").fill("soft light")
    expect(place.locator(".shelf .name")).to_have_text(["Meadow Photo v5"])
    place.get_by_role("searchbox", name="Search names").fill("nowhere at all")
    expect(place.locator("#library > .nothing")).to_contain_text("Nothing here")
    place.get_by_role("searchbox", name="Search names").fill("")
    place.get_by_role("button", name=re.compile("^VAEs")).click()
    expect(place.locator(".shelf .name")).to_have_text(["clear-840000"])
    place.get_by_role("button", name=re.compile("^All")).click()
    place.get_by_label("Order").select_option("Name")
    assert names(place)[:2] == ["bare", "clear-840000"]
    expect(tile(place, "half fetched")).to_contain_text("truncated")


def test_the_sheet_tells_what_it_is_and_keeps_a_note(place: Page, folder: Path) -> None:
    tile(place, "Meadow Photo v5").get_by_role("button").first.click()
    sheet = place.locator("dialog.library-card")
    expect(sheet).to_contain_text("soft light, meadow")
    expect(sheet).to_contain_text("Licence unknown: see its page")
    expect(sheet.locator(".made-with img")).to_have_count(5)
    page_of_it = sheet.get_by_role("link", name="Its page on civitai.com")
    expect(page_of_it).to_have_attribute("rel", "noopener noreferrer")
    sheet.get_by_label("Note").fill("good for hills")
    expect(sheet.get_by_text("Saved", exact=True)).to_be_visible()
    assert "good for hills" in (folder / ".models/Meadow Photo v5.easel.json").read_text()
    sheet.get_by_role("button", name="Let this picture stand for it").nth(2).click()
    expect(place.locator("#toast")).to_contain_text("stands for it now")
    expect(sheet.get_by_role("button", name="Take this choice back")).to_be_visible()
    place.keyboard.press("Escape")
    assert (folder / ".models/Meadow Photo v5.easel.webp").is_file()
    place.get_by_role("searchbox", name="Search names").fill("hills")
    expect(place.locator(".shelf .name")).to_have_text(["Meadow Photo v5"])


def test_a_note_typed_just_before_closing_is_kept(place: Page) -> None:
    tile(place, "paper cut").get_by_role("button").first.click()
    place.locator("dialog.library-card").get_by_label("Note").fill("quick")
    place.keyboard.press("Escape")
    expect(place.locator("dialog.library-card")).to_be_hidden()
    place.get_by_role("searchbox", name="Search names").fill("quick")
    expect(place.locator(".shelf .name")).to_have_text(["paper cut"])


def test_use_sets_the_model_and_adds_the_lora(place: Page) -> None:
    tile(place, "Meadow Photo v5").hover()
    place.get_by_role("button", name="Use Meadow Photo v5").click()
    expect(place.locator("#create")).to_be_visible()
    expect(place.locator("#input-model")).to_have_value("Meadow Photo v5")
    place.get_by_role("tab", name="Library").click()
    tile(place, "ink").hover()
    place.get_by_role("button", name="Use ink", exact=True).click()
    expect(place.locator("#loras .lora-row")).to_have_count(1)
    expect(place.locator("#loras .lora-row .name")).to_have_text("ink")


def test_a_repository_is_looked_at_and_fetched(place: Page, folder: Path) -> None:
    sheet = get(place, "someone/paper-garden")
    expect(sheet).to_contain_text("Licence: CC BY 4.0")
    expect(sheet).to_contain_text("LoRA")
    sheet.get_by_role("button", name=re.compile("^Download")).click()
    expect(sheet).to_be_hidden()
    expect(tile(place, "paper-garden")).to_be_visible()
    size = (folder / ".loras/paper-garden.safetensors").stat().st_size
    assert size == len(library_files.LORA)
    place.locator("#toast").get_by_role("button", name="Use").click()
    expect(place.locator("#loras .lora-row .name")).to_have_text("paper-garden")


def test_one_of_several_is_chosen(place: Page) -> None:
    sheet = get(place, "someone/two-papers")
    sheet.get_by_role("button", name="b.safetensors").click()
    expect(sheet).to_contain_text("Becomes b.safetensors")


def test_what_cannot_be_fetched_is_said_in_the_sheet(place: Page) -> None:
    sheet = get(place, "someone/old")
    expect(sheet.get_by_role("alert")).to_contain_text("pickles alone")
    place.get_by_label("Hugging Face repository").fill("someone/nobody")
    place.keyboard.press("Enter")
    expect(sheet.get_by_role("alert")).to_contain_text("nothing at this address")


def test_a_download_is_paused_and_given_up_by_keyboard(place: Page, folder: Path) -> None:
    get(place, "someone/slow-paper").get_by_role("button", name=re.compile("^Download")).press(
        "Enter"
    )
    bar = place.get_by_role("progressbar", name="Progress of someone/slow-paper")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    place.get_by_role("button", name="Pause someone/slow-paper").press("Enter")
    on = place.get_by_role("button", name="Go on with someone/slow-paper")
    expect(on).to_be_focused()
    expect(place.locator(".downloads")).to_contain_text("Paused")
    part = folder / ".loras/slow-paper.safetensors.part"
    assert 0 < part.stat().st_size < len(library_files.LORA)
    on.press("Enter")
    place.get_by_role("button", name="Give someone/slow-paper up").press("Enter")
    expect(place.locator(".download-box")).to_be_hidden()
    for _ in range(200):
        if not part.exists():
            break
        place.wait_for_timeout(50)
    assert not part.exists()


def test_models_to_begin_with_are_one_click_away(bare: Served, context: BrowserContext) -> None:
    page = opened(context.new_page(), bare)
    page.get_by_role("button", name="See what your graphics card can run").click()
    rows = page.locator(".first li")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="Recommended here")).to_contain_text("Stable Diffusion XL")
    rows.first.get_by_role("button", name="Download Stable Diffusion 1.5").click()
    expect(page.locator("#toast")).to_contain_text("is on the shelf")


def test_without_a_graphics_card_there_is_no_word_of_it(page: Page) -> None:
    expect(page.locator("#first-hint")).to_be_hidden()
    page.get_by_role("tab", name="Library").click()
    expect(page.locator(".shelf > li").first).to_be_visible()
    expect(page.locator(".first")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_no_part_of_it_keeps_anybody_out(
    stocked: Served, bare: Served, chromium: Browser, width: int, scheme: str
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = visited(context.new_page(), stocked)
    assert violations(page) == []
    tile(page, "Meadow Photo v5").get_by_role("button").first.click()
    expect(page.locator(".made-with")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(get(page, "someone/two-papers").locator(".get-choices")).to_be_visible()
    assert violations(page) == []
    expect(page.locator("html")).to_have_js_property("scrollWidth", width)
    page.keyboard.press("Escape")
    visited(page, bare)
    page.reload()
    expect(page.locator(".shelf > li").first).to_be_visible()
    assert violations(page) == []
    context.close()

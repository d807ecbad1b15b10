"""The place of models and LoRAs: found, told of, used, fetched."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.library.test_catalogue import put_whole
from tests.library.test_hub_cache import put_in_hub
from tests.ui import library_files
from tests.ui.browsing import new_context, opened
from tests.ui.served import Served, copied
from tests.ui.test_axe_browser import violations

pytestmark = pytest.mark.browser

GRAPHICS = "8"
"""GiB of the graphics card that the fake server believes in."""


def served_over(folder: Path, *more: str) -> Generator[Served, None, None]:
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.01", *more)
    served = copied(arguments, log=folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    library_files.stock(folder / ".models")
    library_files.write_pictures(folder)
    put_in_hub(folder / ".hub", "painter/lake", put_whole)
    return folder


@pytest.fixture(scope="module")
def stocked(folder: Path) -> Generator[Served, None, None]:
    yield from served_over(folder, GRAPHICS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served, None, None]:
    """With the built-in model alone, and a graphics card that carries everything."""
    yield from served_over(tmp_path_factory.mktemp("bare"), "24")


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
    broken = {"cut", "old hat", "old painter", "half fetched"}
    assert set(everything[-4:]) == broken, "broken ones last"
    place.get_by_role("searchbox", name="Search names").fill("soft light")
    expect(place.locator(".shelf .name")).to_have_text(["Meadow Photo v5"])
    place.get_by_role("searchbox", name="Search names").fill("nowhere at all")
    expect(place.locator("#library > .nothing")).to_contain_text("Nothing here")
    place.get_by_role("searchbox", name="Search names").fill("")
    place.get_by_role("button", name=re.compile("^VAEs")).click()
    expect(place.locator(".shelf .name")).to_have_text(["clear-840000"])
    place.get_by_role("button", name=re.compile("^All")).click()
    place.get_by_label("Order").select_option("Name")
    assert names(place)[:2] == ["bare", "canny small"]
    expect(tile(place, "half fetched")).to_contain_text("truncated")


def test_a_family_is_looked_at_alone(place: Page) -> None:
    families = place.get_by_label("Family")
    expect(families.locator("option")).to_have_text(["All families", "SD 1", "SDXL"])
    families.select_option("SDXL")
    assert names(place) == ["grand", "glow"]
    expect(place.locator(".kind")).to_have_text(["All2", "LoRAs1", "Embeddings1"])
    families.select_option("")
    expect(place.locator(".count")).not_to_have_text("2 files")


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


def test_use_takes_a_vae_and_has_a_controlnet_steer(place: Page) -> None:
    tile(place, "clear-840000").hover()
    place.get_by_role("button", name="Use clear-840000").click()
    expect(place.locator("#input-vae")).to_have_value("clear-840000")
    expect(place.locator("#toast")).to_contain_text("clear-840000 is the VAE now.")
    place.locator("#toast").get_by_role("button", name="Undo").click()
    expect(place.locator("#input-vae")).to_have_value("")
    place.get_by_role("tab", name="Library").click()
    tile(place, "postcard-pose").hover()
    place.get_by_role("button", name="Use postcard-pose").click()
    place.locator("dialog.pose").get_by_role("button", name="Done").click()
    unit = place.locator("#controls .control-unit")
    unit.get_by_role("button", name="More settings").click()
    net = unit.get_by_label("ControlNet")
    expect(net).to_have_value("postcard-pose")
    net.select_option("limbs pose")
    # Another one of its kind takes the place of the first, and asks for nothing.
    place.get_by_role("tab", name="Library").click()
    tile(place, "postcard-pose").hover()
    place.get_by_role("button", name="Use postcard-pose").click()
    expect(place.locator("#create")).to_be_visible()
    expect(unit).to_have_count(1)
    expect(net).to_have_value("postcard-pose")


def test_a_model_of_the_hubs_cache_is_marked_and_used_but_not_written_beside(place: Page) -> None:
    expect(tile(place, "painter/lake")).to_contain_text("Hugging Face cache".replace(" ", "\u00a0"))
    tile(place, "painter/lake").get_by_role("button").first.click()
    sheet = place.locator("dialog.library-card")
    expect(sheet).to_contain_text("Easel changes and deletes nothing there")
    expect(sheet.get_by_label("Note")).to_have_count(0)
    sheet.get_by_role("button", name="Use", exact=True).click()
    expect(place.locator("#input-model")).to_have_value("painter/lake")


def test_the_command_of_a_reason_can_be_copied(place: Page) -> None:
    place.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tile(place, "old painter").get_by_role("button").first.click()
    place.locator("dialog.library-card").get_by_role("button", name="Copy Command").click()
    expect(place.locator("#toast")).to_contain_text("Command is copied.")
    copied = place.evaluate("navigator.clipboard.readText()")
    assert copied.startswith('python -c "import torch')
    assert copied.endswith("'old painter.safetensors')\"")


def test_an_embedding_is_told_of_and_put_into_either_prompt(place: Page) -> None:
    place.get_by_role("button", name=re.compile("^Embeddings")).click()
    expect(place.locator(".shelf .name")).to_have_text(["glow", "grey fog", "old hat"])
    expect(tile(place, "old hat")).to_contain_text("weights_only")
    tile(place, "grey fog").get_by_role("button").first.click()
    sheet = place.locator("dialog.library-card")
    expect(sheet.locator(".facts-of-file")).to_contain_text("Vectors8")
    expect(sheet.locator(".facts-of-file")).to_contain_text("SD 1")
    sheet.get_by_role("button", name="Put into the negative prompt").click()
    expect(place.locator("#input-negative_prompt")).to_have_value("<grey fog>")
    expect(place.locator("#toast")).to_contain_text("grey fog is in the negative prompt")
    place.get_by_role("tab", name="Library").click()
    tile(place, "glow").hover()
    place.get_by_role("button", name="Use glow", exact=True).click()
    expect(place.locator("#input-prompt")).to_have_value(re.compile("<glow>$"))
    expect(place.locator("#tokens-prompt")).to_contain_text("made for SDXL")
    place.locator("#input-prompt").fill("a red Glow")
    expect(place.locator("#tokens-prompt")).to_contain_text("“Glow” is an embedding for SDXL")


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


def test_what_its_maker_allows_is_shown_and_kept(place: Page) -> None:
    sheet = get(place, "https://civitai.com/models/3")
    terms = [
        "Its maker has to be named",
        "Pictures may be sold",
        "May not be run as a paid service",
        "May not itself be sold",
        "Merges may be shared",
    ]
    expect(sheet.locator(".terms li")).to_have_text(terms)
    expect(sheet).not_to_contain_text("Licence unknown")
    sheet.get_by_role("button", name=re.compile("^Download")).click()
    tile(place, "paper lane").get_by_role("button").first.click()
    facts = place.locator("dialog.library-card .facts-of-file")
    expect(facts).to_contain_text(" · ".join(terms))


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
    for _ in range(1_200):
        if not part.exists():
            break
        place.wait_for_timeout(50)
    assert not part.exists()


def test_models_to_begin_with_are_one_click_away(bare: Served, context: BrowserContext) -> None:
    page = opened(context.new_page(), bare)
    # As on a machine whose network ends at its own door.
    page.route("**/library/first?network=true", cut_off)
    page.get_by_role("button", name="See what your graphics card can run").click()
    first, rows = page.locator(".first"), page.locator(".first li")
    expect(first).to_contain_text("huggingface.co cannot be reached")
    expect(rows).to_have_count(3)
    expect(first.get_by_role("button")).to_have_text(["Look again"])
    page.unroute("**/library/first?network=true")
    first.get_by_role("button", name="Look again").click()
    expect(first.get_by_role("button", name=re.compile("^Download"))).to_have_count(3)
    # While one is under way, how far it is stands where its button was.
    rows.first.get_by_role("button", name="Download Stable Diffusion 1.5").press("Enter")
    expect(rows.first.get_by_role("progressbar", name="Progress of Stable")).to_be_visible()
    expect(rows.first.get_by_role("button")).to_have_count(0)
    page.get_by_role("button", name=re.compile("^Pause")).click()
    expect(rows.first).to_contain_text("Paused")
    assert violations(page) == []
    rows.nth(1).get_by_role("button", name="Download Stable Diffusion XL 1.0").click()
    expect(tile(page, "sd_xl_base_1.0")).to_be_visible()
    best = rows.filter(has_text="Recommended here")
    best.get_by_role("button", name="Download FLUX.2 klein 4B").click()
    expect(tile(page, "FLUX.2-klein-4B")).to_contain_text("Flux 2")
    expect(first).to_be_hidden()
    page.get_by_role("button", name=re.compile("^Give .* up$")).click()
    expect(page.locator(".download-box")).to_be_hidden()


def cut_off(route: Route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, json=answer.json() | {"reached": False})


def test_without_a_graphics_card_there_is_no_word_of_it(page: Page) -> None:
    expect(page.locator("#first-hint")).to_be_hidden()
    page.get_by_role("tab", name="Library").click()
    expect(page.locator(".shelf > li").first).to_be_visible()
    expect(page.locator(".first")).to_be_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_no_part_of_it_keeps_anybody_out(
    stocked: Served, bare: Served, chromium: Browser, width: int, scheme: str
) -> None:
    context = new_context(
        chromium,
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

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.ui.browsing import fill, generate, opened, request_in, shown
from tests.ui.served import Served, copied
from webui.request import GenerationRequest

pytestmark = pytest.mark.browser

HOSTILE = '<img src="x" onerror="window.hit = 1">${window.hit = 2}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fake")


@pytest.fixture(scope="module")
def fake(folder: Path) -> Generator[Served, None, None]:
    """As the shared one, in a folder that the tests may write to."""
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.01")
    served = copied(arguments, log=folder / "stderr.txt")
    served.wait_for()
    yield served
    served.kill()


@pytest.fixture
def own(folder: Path) -> Generator[Path, None, None]:
    """The folder of own presets, empty again after the test."""
    own = folder / ".presets"
    own.mkdir(exist_ok=True)
    yield own
    for file in own.glob("*.json"):
        file.unlink()


def write(own: Path, file: str, **preset: object) -> None:
    (own / file).write_text(json.dumps({"schema": 1, "about": "", **preset}))


def choose(page: Page, name: str) -> Locator:
    """Opens the presets and finds one by typing; gives the sheet."""
    page.locator(".presets-open").click()
    sheet = page.locator("dialog.presets")
    expect(sheet.get_by_role("option").first).to_be_visible()
    page.keyboard.type(name)
    expect(sheet.locator(".detail h3")).to_have_text(name)
    expect(sheet.locator("table, .detail .same:visible").first).to_be_visible()
    return sheet


def row(sheet: Locator, field: str) -> Locator:
    return sheet.locator("tr", has=sheet.page.locator(f"[data-field={field}]"))


def values(page: Page) -> dict[str, object]:
    """The recipe on the page."""
    return json.loads(page.evaluate("sessionStorage.getItem('easel.desk')"))


def test_a_preset_shows_its_differences_and_is_taken_in_part(page: Page) -> None:
    fill(page, "prompt", "a hill, soft light")
    fill(page, "seed", "5")
    sheet = choose(page, "Portrait photo")
    cells = row(sheet, "steps").locator("td")
    expect(cells).to_have_text(["model's own", "30"])
    expect(row(sheet, "width").locator("td")).to_have_text(["model's own", "512"])
    assert "portrait photo" in " ".join(row(sheet, "prompt").locator("ins").all_inner_texts())
    expect(row(sheet, "prompt").locator("del")).to_have_count(0)
    expect(row(sheet, "seed")).to_have_count(0)

    sheet.locator("[data-group=size]").uncheck()
    expect(sheet.locator("[data-field=height]")).not_to_be_checked()
    sheet.locator("[data-field=cfg]").uncheck()
    assert sheet.locator("[data-group=sampling]").evaluate("box => box.indeterminate") is True
    sheet.get_by_role("button", name="Apply 5 of 8").click()
    expect(sheet).to_be_hidden()
    taken = values(page)
    assert (taken["steps"], taken["schedule"], taken["seed"]) == (30, "karras", 5)
    assert (taken["cfg"], taken["width"], taken["height"]) == (None, None, None)
    assert str(taken["prompt"]).startswith("a hill, soft light, portrait photo")
    # Taken in part, the page is not as the preset has it.
    expect(page.locator(".in-use")).to_be_empty()
    expect(page.locator("#input-steps")).to_have_value("30")

    page.locator("#toast").get_by_role("button", name="Undo").click()
    assert values(page) == taken | {
        "steps": None,
        "sampler": None,
        "schedule": None,
        "prompt": "a hill, soft light",
        "negative_prompt": "",
    }


def test_the_preset_in_use_is_named_while_the_page_matches_it(page: Page) -> None:
    choose(page, "Quick draft")
    page.keyboard.press("Enter")
    expect(page.locator(".in-use")).to_have_text("Quick draft")
    fill(page, "prompt", "a hill")
    page.reload()
    expect(page.locator(".in-use")).to_have_text("Quick draft")
    fill(page, "steps", "11")
    expect(page.locator(".in-use")).to_be_empty()
    fill(page, "steps", "10")
    expect(page.locator(".in-use")).to_have_text("Quick draft")
    sheet = choose(page, "Quick draft")
    expect(sheet.get_by_text("Nothing would change")).to_be_visible()
    expect(sheet.get_by_role("button", name="Apply")).to_be_disabled()


def test_what_is_chosen_while_the_listing_is_on_its_way_stays_chosen(page: Page) -> None:
    sheet = page.locator("dialog.presets")
    draft, photo = (sheet.get_by_role("option", name=n) for n in ("Quick draft", "Portrait photo"))
    page.locator(".presets-open").click()
    draft.click()
    sheet.get_by_role("button", name="Apply").click()
    expect(sheet).to_be_hidden()
    held: list[Route] = []
    page.route("**/presets", lambda route: held.append(route))
    page.locator(".presets-open").click()
    expect(draft).to_have_attribute("aria-selected", "true")
    photo.click()
    (route,) = held
    listing = route.fetch().json()
    for preset in listing["presets"]:
        preset["about"] = "It has come."
    route.fulfill(json=listing)
    expect(photo).to_contain_text("It has come.")
    expect(photo).to_have_attribute("aria-selected", "true")
    expect(sheet.locator(".detail h3")).to_have_text("Portrait photo")


def test_the_list_is_walked_by_keyboard(page: Page) -> None:
    page.locator(".presets-open").focus()
    page.keyboard.press("Enter")
    sheet = page.locator("dialog.presets")
    expect(sheet.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = sheet.get_by_role("option").nth(1)
    expect(second).to_have_attribute("aria-selected", "true")
    box = sheet.get_by_role("combobox")
    expect(box).to_have_attribute("aria-activedescendant", str(second.get_attribute("id")))
    page.keyboard.press("ArrowUp")
    expect(sheet.get_by_role("option").first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(page.locator(".presets-open")).to_be_focused()


def test_a_page_with_a_mistake_still_takes_a_preset_that_mends_it(page: Page) -> None:
    fill(page, "steps", "")
    sheet = choose(page, "Quick draft")
    expect(row(sheet, "steps").locator("td").nth(1)).to_have_text("10")
    page.keyboard.press("Enter")
    expect(page.locator("#input-steps")).to_have_value("10")
    assert values(page)["steps"] == 10


def test_a_preset_is_saved_replaced_deleted_and_brought_back(page: Page, own: Path) -> None:
    fill(page, "prompt", "a hill")
    fill(page, "steps", "7")
    fill(page, "seed", "3")
    page.locator(".presets-open").click()
    page.get_by_role("button", name="Save as…").click()
    form = page.locator("dialog.save-as")
    ticked = form.locator("[data-field]:checked")
    assert [box.get_attribute("data-field") for box in ticked.all()] == ["prompt", "steps"]
    expect(form.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    form.get_by_label("Name").fill("My hill")
    form.get_by_label("What it is for").fill("For hills.")
    page.keyboard.press("Enter")
    expect(form).to_be_hidden()
    (file,) = own.glob("*.json")
    saved = {"schema": 1, "name": "My hill", "about": "For hills."}
    assert json.loads(file.read_text()) == saved | {"request": {"prompt": "a hill", "steps": 7}}
    sheet = page.locator("dialog.presets")
    expect(sheet.locator(".detail h3")).to_have_text("My hill")
    expect(sheet.locator('[aria-selected="true"] .own')).to_be_visible()

    page.get_by_role("button", name="Save as…").click()
    expect(form.get_by_label("Name")).to_have_value("My hill")
    form.locator("[data-field=seed]").check()
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("'My hill'")
    form.get_by_role("button", name="Replace it").click()
    expect(form).to_be_hidden()
    request = {"prompt": "a hill", "steps": 7, "seed": 3}
    assert json.loads(file.read_text()) == saved | {"request": request}

    sheet.get_by_role("button", name="Delete").click()
    expect(sheet.locator("#toast")).to_contain_text("Deleted: My hill")
    expect(sheet.get_by_role("option", name="My hill")).to_have_count(0)
    assert not file.exists()
    sheet.get_by_role("button", name="Undo").click()
    expect(sheet.get_by_role("option", name="My hill")).to_be_visible()
    assert json.loads(file.read_text()) == saved | {"request": request}


def test_a_preset_goes_out_and_in_as_a_file(page: Page, own: Path) -> None:
    sheet = choose(page, "Quick draft")
    expect(sheet.get_by_role("button", name="Delete")).to_be_hidden()
    with page.expect_download() as downloading:
        sheet.get_by_role("button", name="Export").click()
    download = downloading.value
    assert download.suggested_filename == "quick-draft.json"
    file = own.parent / "exported.json"
    download.save_as(file)
    bad = own.parent / "bad.json"
    bad.write_text('{"schema": 1, "name": "Bad", "request": {"step": 3}}')
    table = own.parent / "styles.csv"
    table.write_text('name,prompt,negative_prompt\nInk,"{prompt}, ink drawing",colour\n')

    sheet.locator("input[type=file]").set_input_files([file, bad, table])
    report = sheet.locator(".report")
    expect(report).to_contain_text("exported.json: 1 preset was added.")
    expect(report).to_contain_text("bad.json: Unknown key 'step': did you mean 'steps'?")
    expect(report).to_contain_text("styles.csv: 1 preset was added.")
    expect(sheet.locator(".detail h3")).to_have_text("Ink")
    out, back = (json.loads(f.read_text()) for f in (file, own / "quick-draft-2.json"))
    assert back == out | {"name": "Quick draft (2)"}
    with page.expect_download() as downloading:
        sheet.get_by_role("button", name="Write styles.csv").click()
    assert downloading.value.suggested_filename == "styles.csv"
    downloading.value.save_as(table)
    assert table.read_text("utf-8-sig").splitlines()[1:] == ["Ink,ink drawing,colour"]
    expect(report).to_contain_text("styles.csv: 1 preset was written.")
    expect(report).to_contain_text(
        "Left out, since a style is a prompt with a name: Quick draft (2)."
    )


def test_broken_files_are_listed_with_their_reason(page: Page, own: Path) -> None:
    write(own, "typo.json", name="Typo", request={"promt": "x"})
    (own / "half.json").write_text('{"schema": 1,')
    page.locator(".presets-open").click()
    broken = page.locator(".broken")
    expect(broken).to_contain_text("Unknown key 'promt': did you mean 'prompt'?")
    expect(broken).to_contain_text("half.json It is not valid JSON")
    expect(page.get_by_role("option", name="Quick draft")).to_be_visible()


def test_text_from_files_stays_text(page: Page, own: Path, folder: Path) -> None:
    write(own, "hostile.json", name=HOSTILE, about=HOSTILE, request={"prompt": HOSTILE})
    write(own, '<img src="x" onerror="window.hit = 3">${window.hit = 4}.json', name="")
    (folder / ".presets" / "words").mkdir(exist_ok=True)
    lists = folder / ".presets" / "words" / "film.txt"
    lists.write_text(HOSTILE + "\n")
    try:
        fill(page, "prompt", "an old hill")
        sheet = choose(page, HOSTILE)
        expect(sheet.locator(".detail .about")).to_have_text(HOSTILE)
        expect(row(sheet, "prompt").locator("td").nth(1)).to_have_text(HOSTILE)
        expect(sheet.locator(".broken")).to_contain_text("window.hit = 3")
        page.keyboard.press("Enter")
        expect(page.locator(".in-use")).to_have_text(HOSTILE)
        expect(page.locator("#toast")).to_contain_text(HOSTILE)
        page.get_by_role("button", name="Brief").click()
        page.locator("dialog.brief").get_by_role("tab", name="Film").click()
        page.get_by_role("button", name=HOSTILE, exact=True).click()
        expect(page.locator(".composed")).to_have_text(HOSTILE)
        assert page.evaluate("window.hit") is None
        expect(page.locator('img[src="x"]')).to_have_count(0)
    finally:
        lists.unlink()


def test_the_brief_composes_a_prompt_that_can_be_undone(page: Page) -> None:
    fill(page, "prompt", "an old hill")
    page.get_by_role("button", name="Brief").click()
    sheet = page.locator("dialog.brief")
    expect(sheet.get_by_role("tab", name="Subject")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    sheet.get_by_role("button", name="at dusk").click()
    sheet.get_by_role("button", name="long shadows").click()
    sheet.get_by_role("tab", name="Subject").click()
    subject = sheet.locator(".chip:visible").first
    words = f"{subject.inner_text()}, at dusk, long shadows"
    subject.click()
    expect(sheet.locator(".composed")).to_have_text(words)

    sheet.get_by_role("button", name="Add to prompt").click()
    prompt = page.locator("#input-prompt")
    expect(prompt).to_have_value(f"an old hill, {words}")
    page.get_by_role("button", name="Brief").click()
    sheet.get_by_role("button", name="Use as prompt").click()
    expect(prompt).to_have_value(words)
    expect(prompt).to_be_focused()
    page.keyboard.press("Control+z")
    expect(prompt).to_have_value(f"an old hill, {words}")
    page.keyboard.press("Control+z")
    expect(prompt).to_have_value("an old hill")
    assert values(page)["prompt"] == "an old hill"

    page.get_by_role("button", name="Brief").click()
    sheet.get_by_role("button", name="Surprise me").click()
    surprise = sheet.locator(".composed").inner_text()
    assert surprise != words
    sheet.get_by_role("button", name="Use as prompt").click()
    fill(page, "steps", "1")
    generate(page)
    assert request_in(shown(page)) == GenerationRequest(prompt=surprise, steps=1)


def test_a_list_of_the_brief_is_edited_and_taken_back(page: Page, fake: Served) -> None:
    page.get_by_role("button", name="Brief").click()
    sheet = page.locator("dialog.brief")
    sheet.get_by_role("tab", name="Style").click()
    chips = sheet.locator(".chip:visible")
    expect(chips.first).to_be_visible()
    shipped = chips.all_inner_texts()
    sheet.locator("button:visible", has_text="Edit this list").click()
    sheet.locator("textarea:visible").fill("# no phrase")
    sheet.locator("button:visible", has_text="Save the list").click()
    expect(sheet.get_by_role("alert")).to_contain_text("cannot begin with '#'")
    sheet.locator("textarea:visible").fill("chalk\n\n  crayon  \n")
    sheet.locator("button:visible", has_text="Save the list").click()
    expect(chips).to_have_text(["chalk", "crayon"])

    opened(page, fake)
    page.get_by_role("button", name="Brief").click()
    sheet.get_by_role("tab", name="Style").click()
    expect(chips).to_have_text(["chalk", "crayon"])
    sheet.locator("button:visible", has_text="Back to the shipped list").click()
    expect(chips).to_have_text(shipped)
    sheet.get_by_role("button", name="Undo").click()
    expect(chips).to_have_text(["chalk", "crayon"])
    sheet.locator("button:visible", has_text="Back to the shipped list").click()
    expect(chips).to_have_text(shipped)

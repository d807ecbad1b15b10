from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.library import weights
from tests.ui.browsing import fill, generate, opened, request_in, shown
from tests.ui.served import Served
from webui.ui.texts import Catalogue

pytestmark = pytest.mark.browser

FEW = "sdxl_lightning_4step"
FLOW = "flux1-dev"
NEVER_GUIDED = "flux1-schnell"


@pytest.fixture
def page(context: BrowserContext, fake: Served, fake_folder: Path) -> Generator[Page]:
    files = {FEW: weights.sdxl(), FLOW: weights.flux(), NEVER_GUIDED: weights.flux(guidance=False)}
    paths = [fake_folder / ".models" / f"{name}.safetensors" for name in files]
    for path, shapes in zip(paths, files.values(), strict=True):
        weights.put(path, shapes)
    yield opened(context.new_page(), fake)
    for path in paths:
        path.unlink()


def own(page: Page, name: str, value: str) -> None:
    expect(page.locator(f"#input-{name}")).to_have_attribute("placeholder", value)


def test_what_is_left_open_is_shown_as_the_model_has_it_and_what_is_set_stays(page: Page) -> None:
    page.get_by_text("More settings").click()
    own(page, "steps", "20")
    own(page, "cfg", "5")
    page.locator("#input-model").select_option(FEW)
    own(page, "steps", "4")
    own(page, "cfg", "1")
    expect(page.locator("#input-steps")).to_have_value("")
    expect(page.locator("#own-steps")).to_be_visible()
    expect(page.locator("#note-steps")).to_have_text(f"{FEW} is made for few steps.")
    expect(page.locator("#input-sampler option").first).to_have_text("Model's own: Euler")
    expect(page.locator("#input-schedule option").first).to_have_text("Model's own: sgm uniform")

    # Set by hand it wins, with advice where it does not suit, and outlives another model.
    fill(page, "cfg", "7")
    line = page.locator("#field-steps .advice")
    expect(line).to_contain_text("4 steps, CFG 1, Euler, sgm uniform")
    page.locator("#input-model").select_option("postcard")
    own(page, "steps", "20")
    expect(page.locator("#input-cfg")).to_have_value("7")
    fill(page, "steps", "2")
    generate(page)
    made = request_in(shown(page))
    assert (made.steps, made.cfg, made.sampler) == (2, 7.0, None)

    # Left open again it is the model's own again.
    page.get_by_role("button", name="Steps: back to the model's own").click()
    fill(page, "cfg", "")
    page.locator("#input-model").select_option(FEW)
    own(page, "cfg", "1")
    generate(page)
    made = request_in(shown(page))
    assert (made.model, made.steps, made.cfg) == (FEW, None, None)


def test_what_a_family_has_no_use_for_is_hidden_or_idle_with_the_reason(page: Page) -> None:
    page.get_by_text("More settings").click()
    page.locator("#input-sampler").select_option("LCM")
    expect(page.locator("#input-schedule optgroup")).to_have_attribute(
        "label", "Not with LCM, which has its own spacing"
    )
    page.locator("#input-sampler").select_option("")
    page.locator("#input-model").select_option(FLOW)
    expect(page.locator("#note-cfg")).to_have_text("Has no effect without a negative prompt.")
    own(page, "guidance", "3.5")
    unable = page.locator("#input-sampler optgroup")
    expect(unable).to_have_attribute("label", "Cannot run models trained by flow matching")
    expect(unable.locator("option", has_text="PNDM")).to_be_disabled()
    expect(page.locator("#input-schedule optgroup")).to_have_count(0)
    page.get_by_text("Negative prompt", exact=True).first.click()
    fill(page, "negative_prompt", "fog")
    expect(page.locator("#note-cfg")).to_be_hidden()
    expect(page.locator("#tokens-negative_prompt")).to_contain_text("Has no effect at CFG 1.")
    fill(page, "negative_prompt", "")

    page.locator("#input-model").select_option(NEVER_GUIDED)
    expect(page.locator("#field-cfg")).to_be_hidden()
    expect(page.locator("#field-negative_prompt")).to_be_hidden()
    fold = page.locator("#useless")
    fold.locator("summary").click()
    expect(fold).to_contain_text("Models of this family were made to run without CFG.")
    # What was set before is shown with the reason, and goes once it is taken out.
    page.locator("#input-model").select_option("postcard")
    fill(page, "cfg", "6")
    page.locator("#input-model").select_option(NEVER_GUIDED)
    expect(page.locator("#note-cfg")).to_have_text(
        "Models of this family were made to run without CFG."
    )
    page.get_by_role("button", name="CFG: back to the model's own").click()
    expect(page.locator("#field-cfg")).to_be_hidden()


REASONS = {
    "guidance": "no_distilled_guidance",
    "clip_skip": "pooled_clip",
    "refiner": "no_refiner",
    "prediction": "one_prediction",
}


def test_each_field_without_use_has_its_own_reason_hidden_or_set(page: Page) -> None:
    words = Catalogue.load().of("en").words
    page.get_by_text("More settings").click()
    page.locator("#input-model").select_option(NEVER_GUIDED)
    fold = page.locator("#useless")
    fold.locator("summary").click()
    for name, reason in REASONS.items():
        expect(page.locator(f"#field-{name}")).to_be_hidden()
        title = page.get_by_text(words[f"field.{name}"], exact=True)
        row = fold.locator("div").filter(has=title)
        expect(row.locator("dd")).to_have_text(words[f"useless.{reason}"])
    for useful, name, value, useless in (
        (FLOW, "guidance", "5", "postcard"),
        ("postcard", "clip_skip", "2", NEVER_GUIDED),
        ("postcard", "prediction", "v", NEVER_GUIDED),
    ):
        page.locator("#input-model").select_option(useful)
        expect(page.locator(f"#note-{name}")).to_be_hidden()
        field = page.locator(f"#input-{name}")
        if name == "prediction":
            field.select_option(value)
        else:
            field.fill(value)
        page.locator("#input-model").select_option(useless)
        expect(page.locator(f"#note-{name}")).to_have_text(words[f"useless.{REASONS[name]}"])

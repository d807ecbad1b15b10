"""What nobody means well: each is one sentence at once, and the server is as it was."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.library.test_loras import kohya, put
from tests.ui.browsing import generate, opened
from tests.ui.hostile import (
    MANY,
    MARKUP,
    at_once,
    client_of,
    compressed_text,
    huge_picture,
    log_of,
    long_text,
    on_small_disk,
    picture,
    preset,
    presets,
    saved,
    sentence_in,
    served_over,
    unharmed,
    views,
    with_recipe,
    without_override,
    write_own,
)
from tests.ui.served import Served
from webui.library.history_database import DAMAGED, INDEX

DEEP = "[" * 10_000 + "]" * 10_000
SMALL_DISK = 4 * 1024**2
"""Bytes: room for a history and some pictures, not for a large one."""

PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "no-json.png": (lambda: with_recipe("{'a': 1}"), "not valid JSON"),
    "no-object.png": (lambda: with_recipe("[1]"), "it holds no request"),
    "deep.png": (lambda: with_recipe(DEEP), "not valid JSON"),
    "deep-request.png": (lambda: with_recipe(f'{{"request": {DEEP}}}'), "not valid JSON"),
    "bomb.png": (lambda: compressed_text(b"easel"), "longer than 1,048,576 bytes"),
    "foreign-bomb.png": (lambda: compressed_text(b"parameters"), "longer than 1,048,576 bytes"),
    "long.png": (lambda: long_text(60 * 1024**2), "longer than 1,048,576 bytes"),
    "moving.png": (lambda: picture("GIF"), "no picture of the kinds that are read"),
    "drawing.png": (lambda: b"<svg onload='window.hit = 1'/>", "no picture of the kinds"),
    "cut.png": (lambda: picture()[:-20], "it is cut off"),
    "head.png": (lambda: picture()[:20], "it is cut off"),
    "empty.png": (lambda: b"", "The file is empty."),
}
"""What is in a file, and the sentence about it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a preset, everything in `PICTURES`, and an index that is garbage."""
    folder = tmp_path_factory.mktemp("bad") / "outputs"
    folder.mkdir()
    write_own(folder)
    for name, (data, _) in PICTURES.items():
        (folder / name).write_bytes(data())
    (folder / "huge.png").write_bytes(huge_picture())
    (folder / INDEX).write_bytes(b"no database" * 1_000)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Generator[Served, None, None]:
    served = served_over(folder, without_override)
    yield served
    served.kill()


def test_an_index_that_is_garbage_is_made_anew(server: Served, folder: Path) -> None:
    with client_of(server) as client:
        assert {"1.png", "2.png", *PICTURES, "huge.png"} == saved(client).keys()
        assert client.get("/history").json()["notice"] is None
    assert (folder / DAMAGED).read_bytes().startswith(b"no database")
    with unharmed(server, folder) as client:
        (folder / INDEX).write_bytes(b"no database" * 10_000)
        assert client.get("/history", params={"search": "hill"}).json()["total"] == 2


@pytest.mark.parametrize("name", PICTURES)
def test_a_hostile_picture_is_one_sentence(server: Served, folder: Path, name: str) -> None:
    data, sentence = (folder / name).read_bytes(), PICTURES[name][1]
    with unharmed(server, folder) as client:
        with at_once(server):
            assert sentence in sentence_in(client.post("/read", content=data))
        item = saved(client)[name]
        assert sentence in item["broken"]
        small = client.get(item["thumbnail"])
        if small.status_code != 200:
            assert name in sentence_in(small)


def test_a_file_that_is_too_large_is_refused_by_its_size(server: Served, folder: Path) -> None:
    with unharmed(server, folder) as client:
        answer = client.post("/read", content=long_text(MANY))
        assert sentence_in(answer) == "This is too large: at most 64 MiB can be sent."
        answer = client.post("/presets/import?name=a.json", content=bytes(8 * 1024**2))
        assert "larger than the 4 MiB" in sentence_in(answer)
        answer = client.post("/look", content=bytes(2 * 1024**2))
        assert sentence_in(answer) == "This is too large: at most 1 MiB can be sent."


def test_900_megapixels_are_read_and_not_drawn(server: Served, folder: Path) -> None:
    data = (folder / "huge.png").read_bytes()
    assert len(data) < 130_000
    with unharmed(server, folder) as client:
        read = client.post("/read", content=data).json()
        assert (read["request"], read["width"]) == ({"prompt": "a wide field"}, 30_000)
        item = saved(client)["huge.png"]
        assert (item["prompt"], item["height"], item["broken"]) == ("a wide field", 30_000, None)
        with at_once(server):
            sentence = sentence_in(client.get(item["thumbnail"]))
        assert sentence == "huge.png has too many pixels to be shown small."
        assert client.get(item["url"]).content == data


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (preset(request={"promt": "a"}), "Unknown key 'promt': did you mean 'prompt'?"),
        (preset(request={"steps": 5}, abuot="a"), "Unknown key 'abuot': did you mean 'about'?"),
        (preset(request={"\ud800": 1}), "unable to parse raw data as a unicode string"),
        (preset(request={"steps": "many"}), "steps is 'many'"),
        (preset(request={"loras": [{"name": 3}]}), "loras.0.name is 3"),
        (preset(request={"cfg": float("nan")}), "cfg is nan: it must be an ordinary number"),
        (preset(request={"prompt": {"a": []}}), "prompt is"),
        (preset(request=[]), "must name at least one field"),
        (preset(request={"steps": 5}, name=["a"]), "name must be text"),
        (preset(request={"steps": 5}, name="a\0b"), "name must be one line of plain text"),
        (preset(request={"steps": 5}, schema=2), "It has schema 2, of a newer version"),
        (preset(request={"steps": 5}, schema="1"), "It is no preset of a known schema"),
        (preset(request={"steps": 5}, schema=10**400), "of a newer version"),
        (f'{{"schema": 1, "name": "a", "request": {DEEP}}}', "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        (preset(request={"prompt": "a" * 300_000}), "larger than the 256 KiB"),
        ("no json", "It is not valid JSON"),
    ],
    ids=lambda text: text[:40],
)
def test_a_hostile_preset_is_one_sentence(
    server: Served, folder: Path, content: str, sentence: str
) -> None:
    with unharmed(server, folder) as client:
        known = presets(client)
        answer = client.post("/presets/import?name=hostile.json", content=content.encode())
        assert sentence in sentence_in(answer)
        file = folder / ".presets" / "hostile.json"
        file.write_text(content)
        listed = client.get("/presets").json()
        file.unlink()
        (broken,) = listed["broken"]
        assert sentence in broken["reason"]
        assert len(listed["presets"]) == len(known)


@pytest.mark.browser
def test_markup_in_a_preset_is_text_everywhere(
    server: Served, folder: Path, context: BrowserContext
) -> None:
    texts = dict.fromkeys(("prompt", "negative_prompt", "model", "init", "mask"), MARKUP)
    request = {**texts, "steps": 3, "loras": [{"name": MARKUP}]}
    content = preset(name=MARKUP, about=MARKUP, request=request)
    (folder / ".presets" / f"{MARKUP}.json").write_text(content)
    page = opened(context.new_page(), server)
    page.locator(".presets-open").click()
    sheet = page.locator("dialog.presets")
    expect(sheet.get_by_role("option", name=MARKUP)).to_be_visible()
    page.keyboard.type(MARKUP)
    expect(sheet.locator(".detail .about")).to_have_text(MARKUP)
    for field in texts:
        row = sheet.locator("tr", has=page.locator(f"[data-field={field}]"))
        expect(row.locator("td").nth(1)).to_contain_text(MARKUP)
    page.keyboard.press("Enter")
    expect(page.locator("#input-prompt")).to_have_value(MARKUP)
    expect(page.locator("#loras .lora-row .name")).to_have_text(MARKUP)
    generate(page)
    expect(page.locator("#problem")).to_contain_text(f"Unknown LoRA '{MARKUP}'")
    page.get_by_role("button", name="Mute this row").click()
    generate(page)
    page.goto(server.address + "/#history")
    page.get_by_role("img", name=MARKUP).first.click()
    expect(page.locator("dialog.picture")).to_contain_text(MARKUP)
    assert page.evaluate("window.hit") is None
    expect(page.locator('img[src="x"]')).to_have_count(0)


@pytest.mark.browser
def test_markup_in_the_file_of_a_lora_is_text_everywhere(
    server: Served, folder: Path, context: BrowserContext
) -> None:
    said = {
        "ss_output_name": MARKUP,
        "ss_sd_model_name": MARKUP,
        "modelspec.trigger_phrase": MARKUP,
        "ss_tag_frequency": json.dumps({MARKUP: {MARKUP: 3}}),
    }
    put(folder / ".loras" / "marked up.safetensors", kohya(), **said)
    page = opened(context.new_page(), server)
    page.locator("#loras .add").click()
    page.get_by_role("button", name="About marked up", exact=True).click()
    card = page.locator("dialog.lora-card")
    expect(card).to_contain_text(MARKUP)
    card.locator(".chip").first.click()
    expect(page.locator("#input-prompt")).to_have_value(re.compile(r"<img src"))
    assert page.evaluate("window.hit") is None
    expect(page.locator('img[src="x"]')).to_have_count(0)


@pytest.mark.browser
def test_no_prompt_stays_behind_where_nobody_looks(
    server: Served, folder: Path, context: BrowserContext
) -> None:
    prompt = "a placeholder that is easily found"
    page = opened(context.new_page(), server)
    page.locator("#input-prompt").fill(prompt)
    generate(page)
    stored = page.evaluate(
        """async () => ({
            ...localStorage,
            cookie: document.cookie,
            address: location.href,
            databases: (await indexedDB.databases()).map((one) => one.name).join(),
            caches: (await caches.keys()).join(),
            history: JSON.stringify(history.state),
            name: window.name,
        })"""
    )
    assert prompt not in json.dumps(stored)
    assert stored["databases"] == stored["caches"] == ""
    # What was typed outlives a reload, and ends with its tab.
    assert prompt in page.evaluate("JSON.stringify(sessionStorage)")
    assert prompt not in opened(context.new_page(), server).evaluate(
        "JSON.stringify([sessionStorage, localStorage])"
    )
    assert all(prompt not in json.dumps(dict(cookie)) for cookie in context.cookies())
    assert prompt not in log_of(folder)


@pytest.mark.browser
def test_a_file_that_is_too_large_is_told_on_the_page(
    server: Served, context: BrowserContext
) -> None:
    page = opened(context.new_page(), server)
    script = """(size) => {
      const carrier = new DataTransfer();
      carrier.items.add(new File([new Uint8Array(size)], "large.png", { type: "image/png" }));
      return carrier;
    }"""
    large = page.evaluate_handle(script, MANY)
    page.dispatch_event("#field-steps", "drop", {"dataTransfer": large})
    expect(page.locator("#toast")).to_contain_text("too large: at most 64 MiB can be sent.")


def test_a_folder_that_vanishes_comes_back_with_everything(server: Served, folder: Path) -> None:
    with unharmed(server, folder) as client:
        item = saved(client)["1.png"]
        away = folder.with_name("away")
        folder.rename(away)
        try:
            gone = client.get("/history", params={"search": "hill"}).json()
            assert gone["total"] == 2
            assert gone["notice"].startswith(f"The folder {folder} is not there")
            assert "1.png" in sentence_in(client.get(item["url"]))
            assert "1.png" in sentence_in(client.get(item["thumbnail"]))
            for action in ("trash", "restore", "empty"):
                outcome = client.post(f"/history/{action}", json={"ids": [item["id"]]}).json()
                assert (outcome["done"], len(outcome["problems"])) == ([], 1)
        finally:
            away.rename(folder)
        assert client.get("/history").json()["notice"] is None
        assert client.get(item["url"]).content == (folder / "1.png").read_bytes()


def test_a_folder_that_cannot_be_written_is_one_sentence_each(server: Served, folder: Path) -> None:
    size = len(log_of(folder))
    with unharmed(server, folder) as client:
        item = saved(client)["1.png"]
        closed = (folder, folder / ".presets")
        for place in closed:
            place.chmod(0o555)
        try:
            writing_is_refused(client, item, "Permission denied")
            assert client.get(item["url"]).status_code == 200
            assert client.get(item["thumbnail"]).status_code == 200
        finally:
            for place in closed:
                place.chmod(0o755)
    assert log_of(folder)[size:] == ""


def writing_is_refused(client: httpx.Client, item: dict[str, Any], reason: str) -> None:
    """Asks for everything that writes."""
    body = {"name": "New", "request": {"steps": 5}}
    assert reason in sentence_in(client.post("/presets", json=body))
    content = preset(request={"steps": 5}).encode()
    assert reason in sentence_in(client.post("/presets/import?name=a.json", content=content))
    assert reason in sentence_in(client.put("/words/light", json={"phrases": ["dusk"]}))
    mine = f"/presets/{presets(client)['Mine']['id']}"
    assert reason in sentence_in(client.request("DELETE", mine, content=b"{}"))
    outcome = client.post("/history/trash", json={"ids": [item["id"]]}).json()
    assert outcome["done"] == []
    assert reason in outcome["problems"][0]
    (view,) = views(client, "generate", {"tab": "a", "request": {"steps": 1}})
    assert reason in view["problem"]["message"]
    assert view["saved"] == 0


def test_a_full_disk_is_one_sentence_each(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    folder.mkdir()
    try:
        served = served_over(folder, partial(on_small_disk, folder, SMALL_DISK))
    except subprocess.SubprocessError:
        pytest.skip("This account may not mount a disk; the unit tests of writing stand for it.")
    inside = Path(f"/proc/{served.process.pid}/root{folder}")
    try:
        write_own(inside)
        with unharmed(served, inside) as client:
            fill(inside / "filling")
            for _ in range(3):
                body = {"name": "New", "request": {"steps": 5}}
                sentence = sentence_in(client.post("/presets", json=body))
                assert sentence.startswith("The disk is full: new.json was not saved.")
                (view,) = views(client, "generate", {"tab": "a", "request": {"steps": 1}})
                assert view["problem"]["message"].startswith("The disk is full: ")
            assert client.get("/history", params={"search": "hill"}).json()["total"] == 2
            for item in saved(client).values():
                assert client.get(item["thumbnail"]).status_code == 200
            (inside / "filling").unlink()
        with client_of(served) as client:
            (view,) = views(client, "generate", {"tab": "a", "request": {"steps": 1}})
            assert (view["problem"], view["saved"]) == (None, 1)
    finally:
        served.kill()
    assert "Traceback" not in log_of(folder)


def fill(file: Path) -> None:
    """Takes all the room there is."""
    with file.open("wb", buffering=0) as filling:
        for size in (65_536, 4_096, 512, 1):
            try:
                while True:
                    filling.write(bytes(size))
            except OSError:
                continue

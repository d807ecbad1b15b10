from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.library.presets import PresetShelf
from webui.request import GenerationRequest
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.presets import MAX_FILE_BYTES, add_presets_routes
from webui.ui.visitor import at_this_machine

NOW = GenerationRequest(prompt="a harbour").model_dump(mode="json")
WIDE = b'{"schema": 1, "name": "Wide", "about": "Wide.", "request": {"width": 1216, "steps": 30}}'


STYLES = b"""name,prompt,negative_prompt
Wide,wide angle,
Ink,"{prompt}, ink",colour
#Old,crayon
Bad,"{prompt} {prompt}",
"""


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "wide.json").write_bytes(WIDE)
    (tmp_path / "shipped" / "bad.json").write_text("{")
    app = FastAPI()
    answer_errors(app)
    add_presets_routes(app, PresetShelf(tmp_path / "shipped", tmp_path / "mine"))
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    app.dependency_overrides[at_this_machine] = lambda: None
    return TestClient(app)


def save(client: TestClient, **change: Any) -> dict[str, Any]:
    body = {"name": "Mine", "about": "A sentence.", "request": {"steps": 5}} | change
    answer = client.post("/presets", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_presets_and_broken_files_are_listed(client: TestClient):
    listing = client.get("/presets").json()
    (wide,) = listing["presets"]
    assert len(wide.pop("id")) == 16
    assert wide == {
        "name": "Wide",
        "about": "Wide.",
        "notices": [],
        "own": False,
        "request": {"width": 1216, "steps": 30},
        "groups": ["size", "sampling"],
    }
    (broken,) = listing["broken"]
    assert broken["file"] == "shipped/bad.json"
    assert broken["reason"].startswith("It is not valid JSON")


def test_a_preset_is_saved_replaced_deleted_and_brought_back(client: TestClient):
    saved = save(client)
    again = {key: saved[key] for key in ("name", "about", "request")}
    taken = client.post("/presets", json=again)
    assert taken.status_code == 409
    assert taken.json()["field"] == "name"
    assert save(client, request={"steps": 6}, replace=True)["id"] == saved["id"]
    deleted = client.delete(f"/presets/{saved['id']}").json()
    assert deleted["request"] == {"steps": 6}
    assert len(client.get("/presets").json()["presets"]) == 1
    assert client.delete(f"/presets/{saved['id']}").status_code == 404
    assert save(client)["id"] == saved["id"]


def test_a_preset_leaves_as_a_file_and_comes_back(client: TestClient):
    saved = save(client, name='Öl "/../x')
    file = client.get(f"/presets/{saved['id']}/file")
    assert file.headers["content-disposition"] == 'attachment; filename="ol-x.json"'
    answer = client.post("/presets/import", params={"name": "ol-x.json"}, content=file.content)
    assert answer.json()["report"] == []
    by_id = {preset["id"]: preset for preset in client.get("/presets").json()["presets"]}
    copy = by_id[answer.json()["added"][0]]
    assert copy["name"] == 'Öl "/../x (2)'
    assert copy["request"] == saved["request"]


def test_styles_become_presets_and_what_does_not_is_reported(client: TestClient):
    answer = client.post("/presets/import", params={"name": "Styles.CSV"}, content=STYLES)
    (report,) = answer.json()["report"]
    assert report.startswith("The style 'Bad' was left out: ")
    by_id = {preset["id"]: preset for preset in client.get("/presets").json()["presets"]}
    added = [by_id[id] for id in answer.json()["added"]]
    assert [(preset["name"], preset["request"]) for preset in added] == [
        ("Wide (2)", {"prompt": "{prompt}, wide angle"}),
        ("Ink", {"prompt": "{prompt}, ink", "negative_prompt": "{prompt}, colour"}),
    ]


def test_a_difference_is_shown_and_taken_over_in_part(client: TestClient):
    then = {"prompt": "{prompt}, ink drawing", "steps": 30, "cfg": 5}
    shown = client.post("/presets/differences", json={"now": NOW, "then": then}).json()
    assert shown["differences"] == [
        {"field": "prompt", "group": "look", "now": "a harbour", "then": "a harbour, ink drawing"},
        {"field": "steps", "group": "sampling", "now": None, "then": 30},
        {"field": "cfg", "group": "sampling", "now": None, "then": 5.0},
    ]
    body = {"now": NOW, "then": then, "fields": ["prompt"]}
    assert client.post("/presets/apply", json=body).json() == {
        "request": NOW | {"prompt": "a harbour, ink drawing"}
    }


def test_a_pictures_recipe_is_compared_word_for_word(client: TestClient):
    body = {"now": NOW, "then": NOW | {"prompt": "{prompt}"}, "literal": True}
    (shown,) = client.post("/presets/differences", json=body).json()["differences"]
    assert shown["then"] == "{prompt}"
    applied = client.post("/presets/apply", json=body | {"fields": ["prompt"]}).json()
    assert applied["request"]["prompt"] == "{prompt}"


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "${alert(1)}", "`${7*7}`"])
def test_text_stays_text_byte_for_byte(client: TestClient, text: str):
    request = {"prompt": text, "negative_prompt": text, "model": text}
    saved = save(client, name=text, about=text, request=request)
    by_id = {preset["id"]: preset for preset in client.get("/presets").json()["presets"]}
    assert by_id[saved["id"]] == saved
    assert (saved["name"], saved["about"], saved["request"]) == (text, text, request)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/presets", b'{"name": "x", "request": {"stepz": 1}}', 400),
        ("/presets", b'{"name": "\\ud800", "request": {"steps": 1}}', 400),
        ("/presets", b'{"name": "x", "request": {"\\ud800": 1}}', 400),
        ("/presets", b'{"name": "wide", "request": {"steps": 1}}', 400),
        ("/presets", b'{"name": "x", "request": 5}', 422),
        ("/presets", b'{"name": "x", "request": ' + b'{"a":' * 10_000, 400),
        ("/presets", b"\xff", 400),
        ("/presets/differences", b'{"now": {}, "then": {"steps": "x"}}', 400),
        ("/presets/differences", b'{"now": {"steps": 0}, "then": {}}', 400),
        ("/presets/apply", b'{"now": {}, "then": {}, "fields": ["\\ud800"]}', 400),
        ("/presets/import?name=x.json", b"GIF89a", 400),
        ("/presets/import?name=x.json", b"[" * 10_000, 400),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_saved(
    client: TestClient, tmp_path: Path, path: str, body: bytes, status: int
):
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["message"].endswith((".", "?"))
    assert not (tmp_path / "mine").exists()


def test_own_presets_go_out_as_styles_and_come_in_again(client: TestClient):
    refused = client.get("/presets/styles")
    assert refused.status_code == 404
    assert refused.json()["message"].startswith("None of your presets has a prompt")
    sent = b'name,prompt,negative_prompt\n# Light,,\nInk,"{prompt}, ink",colour\n'
    client.post("/presets/import", params={"name": "styles.csv"}, content=sent)
    save(client, name="Hill", about="", request={"prompt": "a hill", "steps": 5})
    save(client, name="Quick", request={"steps": 2})
    answer = client.get("/presets/styles").json()
    rows = ["name,prompt,negative_prompt", "Hill,a hill,", "# Light,,", "Ink,ink,colour", ""]
    assert answer["file"] == "\ufeff" + "\r\n".join(rows)
    assert answer["count"] == 2
    assert answer["report"] == [
        "Left out, since a style is a prompt with a name: Quick.",
        "Only the prompts were written of: Hill.",
        "As styles these follow the prompt that is there instead of replacing it: Hill.",
    ]
    again = client.post(
        "/presets/import", params={"name": "a.csv"}, content=answer["file"].encode()
    )
    presets = {one["id"]: one for one in client.get("/presets").json()["presets"]}
    ink = presets[again.json()["added"][1]]
    assert (ink["name"], ink["about"]) == ("Ink (2)", "Light")
    assert ink["request"] == {"prompt": "{prompt}, ink", "negative_prompt": "{prompt}, colour"}


def test_a_large_file_is_refused_before_it_is_understood(client: TestClient):
    sent = b"," * (MAX_FILE_BYTES + 1)
    answer = client.post("/presets/import", params={"name": "styles.csv"}, content=sent)
    assert answer.status_code == 400
    assert answer.json()["message"] == "This file is larger than the 4 MiB that presets may have."


def test_others_may_look_but_not_change(app: FastAPI, tmp_path: Path):
    visitor = TestClient(app)
    (wide,) = visitor.get("/presets").json()["presets"]
    assert visitor.get(f"/presets/{wide['id']}/file").status_code == 200
    for answer in (
        visitor.post("/presets", json={"name": "x", "request": {"steps": 1}}),
        visitor.delete(f"/presets/{wide['id']}"),
        visitor.post("/presets/import", params={"name": "wide.json"}, content=WIDE),
    ):
        assert answer.status_code == 403
        assert answer.json()["message"].endswith(".")
    assert not (tmp_path / "mine").exists()

"""A preset, a link, a picture, a saved picture and a text that ask for a filter level."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.ui.hostile import picture
from tests.ui.routes.client import client_of
from webui.levels import NEVER_TAKEN
from webui.library.history import History
from webui.library.presets import PresetShelf
from webui.provenance.indexing import read_for_history
from webui.provenance.pngtext import insert_text
from webui.provenance.recover import recover
from webui.request import GenerationRequest, field_names
from webui.ui.routes.history import add_history_routes
from webui.ui.routes.presets import add_presets_routes
from webui.ui.routes.reading import add_reading_routes

ASKED = (2, True, "2", 1e9, -1, None, [2])
"""Levels as somebody may write them; none of them is taken."""


def asking(level: object) -> bytes:
    """A picture whose recipe asks for a level in both places there are."""
    recipe = {"schema": 1, "level": level, "request": {"prompt": "a hill", "level": level}}
    return insert_text(picture(), {"easel": json.dumps(recipe)})


def reader() -> TestClient:
    app = FastAPI()
    add_reading_routes(app, lambda: ())
    return client_of(app)


def presets_in(folder: Path) -> TestClient:
    app = FastAPI()
    add_presets_routes(app, PresetShelf(folder / "shipped", folder))
    return client_of(app)


def is_ignored(answer: dict[str, Any]) -> None:
    """The rest is taken over, and one notice says that the level is not."""
    assert answer["request"] == {"prompt": "a hill"}
    assert answer["report"] == [NEVER_TAKEN]


def test_there_is_no_level_in_a_recipe_at_all() -> None:
    assert "level" not in field_names()
    parts = GenerationRequest.model_json_schema()["$defs"].values()
    assert all("level" not in part.get("properties", {}) for part in parts)


@pytest.mark.parametrize("level", ASKED)
def test_a_link_that_asks_for_a_level(level: object) -> None:
    linked = {"request": {"prompt": "a hill", "level": level}}
    is_ignored(reader().post("/read/link", json=linked).json())


@pytest.mark.parametrize("level", ASKED)
def test_a_picture_that_asks_for_a_level(level: object) -> None:
    is_ignored(reader().post("/read", content=asking(level)).json())


def test_a_text_that_asks_for_a_level() -> None:
    text = "a hill\nSteps: 3, Sampler: Euler, CFG scale: 5, level: 2, Filter level: 2"
    answer = reader().post("/read/text", json={"text": text}).json()
    assert "level" not in answer["request"]
    assert any("level" in sentence for sentence in answer["report"])


@pytest.mark.parametrize("level", ASKED)
def test_a_saved_picture_that_asks_for_a_level(level: object, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(asking(level))
    with closing(History(tmp_path, read_for_history)) as history:
        identity = history.add(tmp_path / "a.png")
        app = FastAPI()
        add_history_routes(
            app, history, lambda _: {}, lambda path: recover(path.read_bytes()).report
        )
        answer = client_of(app).get(f"/history/{identity}/recipe").json()
    assert answer["request"]["prompt"] == "a hill"
    assert "level" not in answer["request"]
    assert answer["report"] == [NEVER_TAKEN]


@pytest.mark.parametrize("level", ASKED)
def test_a_preset_that_asks_for_a_level(level: object, tmp_path: Path) -> None:
    client = presets_in(tmp_path)
    request = {"prompt": "a hill", "level": level}
    data = json.dumps({"schema": 1, "name": "Hill", "level": level, "request": request}).encode()
    answer = client.post("/presets/import", params={"name": "hill.json"}, content=data).json()
    assert answer["report"] == [NEVER_TAKEN]
    (file,) = tmp_path.glob("*.json")
    assert b"level" not in file.read_bytes()

    # One that was put there by hand is read in the same way, and says so each time.
    file.write_bytes(data)
    (preset,) = client.get("/presets").json()["presets"]
    assert preset["request"] == {"prompt": "a hill"}
    assert preset["notices"] == [NEVER_TAKEN]
    pair: dict[str, Any] = {"now": {}, "then": preset["request"], "fields": ["prompt"]}
    taken = client.post("/presets/apply", json=pair).json()["request"]
    assert taken == GenerationRequest(prompt="a hill").model_dump(mode="json")
    # What is saved from the page is no file of anybody's: there a level is a mistake.
    refused = client.post("/presets", json={"name": "Own", "request": request})
    assert refused.status_code == 400

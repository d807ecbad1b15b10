from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.ui.routes.client import client_of
from webui.events import Saved
from webui.generator import Session
from webui.jobs import Job
from webui.provenance.recover import Recovered
from webui.request import GenerationRequest
from webui.ui.pictures import Pictures
from webui.ui.routes.pictures import add_pictures_routes


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    pictures = Pictures(lambda _: None)
    (tmp_path / "a.png").write_bytes(b"whole")
    (tmp_path / "a.webp").write_bytes(b"small")
    job = Job(GenerationRequest(prompt="a hill"), Session(id="me"), lambda _: None)
    for name in ("a", "gone"):
        path = tmp_path / f"{name}.png"
        pictures.keep(job, Saved(path=str(path), seed=1, sha256=name, width=8, height=8))
    app = FastAPI()
    add_pictures_routes(
        app,
        pictures,
        thumbnail=lambda path: path.with_suffix(".webp").read_bytes(),
        recipe=lambda path: Recovered("easel", {"prompt": path.stem}, ("b",), 8, 8, None),
    )
    return app


def test_a_session_gets_its_list_its_files_and_their_recipes(app: FastAPI) -> None:
    mine: TestClient = client_of(app)
    listed = mine.get("/pictures").json()["pictures"]
    assert [picture["id"] for picture in listed] == ["gone", "a"]
    whole = mine.get("/" + listed[1]["url"])
    assert (whole.content, whole.headers["cache-control"]) == (b"whole", "private, no-store")
    assert mine.get("/" + listed[1]["thumbnail"]).content == b"small"
    assert mine.get("/pictures/a/recipe").json() == {"request": {"prompt": "a"}, "report": ["b"]}


@pytest.mark.parametrize("path", ["a.png", "a/thumbnail.webp", "a/recipe"])
def test_another_session_gets_none_of_it(app: FastAPI, path: str) -> None:
    stranger = client_of(app, session="other")
    assert stranger.get("/pictures").json() == {"pictures": []}
    answer = stranger.get(f"/pictures/{path}")
    assert answer.status_code == 404
    assert answer.json()["message"] == "This picture is not here any more."


def test_a_file_that_is_gone_is_one_sentence(app: FastAPI) -> None:
    answer = client_of(app).get("/pictures/gone.png")
    assert (answer.status_code, answer.json()["field"]) == (404, None)

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.fakes import FakeGenerator
from tests.ui.browsing import request_in
from tests.ui.routes.client import client_of
from webui.generation.families import SD1
from webui.jobs import Jobs
from webui.ui.brought import BroughtIn
from webui.ui.routes.strips import add_strips_routes
from webui.ui.strips import Strips
from webui.ui.variants import draft_of

REQUEST = {"prompt": "a hill", "seed": 7, "loras": [{"name": "ink", "weight": 0.6}]}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    jobs = Jobs(FakeGenerator(tmp_path))
    app = FastAPI()
    add_strips_routes(
        app, Strips(jobs, BroughtIn(), lambda request: draft_of(request, 64, SD1.own))
    )
    yield app
    jobs.close()


@pytest.fixture
def me(app: FastAPI) -> TestClient:
    return client_of(app)


def begun(client: TestClient, **wanted: Any) -> dict[str, Any]:
    answer = client.post("/strips", json={"request": REQUEST, "kind": "sweep"} | wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def finished(client: TestClient, strip: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not strip["finished"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        strip = client.get(f"/strips/{strip['id']}").json()
    return strip


def test_a_strip_is_begun_watched_and_its_pictures_are_fetched(me: TestClient, tmp_path: Path):
    strip = finished(me, begun(me))
    items = strip["items"]
    assert [item["changes"]["weight"] for item in items] == [0, 0.3, 0.6, 0.9, 1.2]
    assert [item["current"] for item in items] == [False, False, True, False, False]
    assert {item["row"] for item in items} == {0}
    assert [item["state"] for item in items] == ["made"] * 5
    for item in items:
        answer = me.get(f"/{item['picture']}")
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["cache-control"] == "private, no-store"
        made = request_in(answer.content)
        assert (made.seed, made.steps) == (7, 8)
        assert made.loras[0].weight == item["changes"]["weight"]
    assert str(tmp_path) not in str(strip)


def test_only_the_session_that_asked_gets_any_of_it(app: FastAPI, me: TestClient):
    strip = finished(me, begun(me))
    stranger = client_of(app, session="stranger")
    picture = strip["items"][0]["picture"]
    for answer in (
        stranger.get(f"/strips/{strip['id']}"),
        stranger.get(f"/{picture}"),
        stranger.delete(f"/strips/{strip['id']}"),
    ):
        assert answer.status_code == 404
    assert me.get(f"/{picture}").status_code == 200


def test_an_ended_strip_is_gone_with_its_pictures(me: TestClient):
    strip = finished(me, begun(me, kind="without"))
    assert [item["row"] for item in strip["items"]] == [None, 0]
    picture = strip["items"][1]["picture"]
    assert me.delete(f"/strips/{strip['id']}").status_code == 200
    for answer in (me.get(f"/{picture}"), me.delete(f"/strips/{strip['id']}")):
        assert answer.status_code == 404
        assert "make it anew" in answer.json()["message"]


def test_a_picture_that_was_tidied_away_is_told(me: TestClient, tmp_path: Path):
    strip = finished(me, begun(me))
    for file in (tmp_path / ".drafts").iterdir():
        file.unlink()
    for path in (strip["items"][0]["picture"], f"strips/{strip['id']}/99.png"):
        assert me.get(f"/{path}").status_code == 404


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({"kind": "shuffle"}, 422, "kind"),
        ({"row": 3}, 400, "no row 4"),
        ({"request": {"prompt": 3}}, 400, "prompt"),
        ({"kind": "without", "request": {}}, 400, "No LoRA is on"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    me: TestClient, wanted: dict[str, Any], status: int, words: str
):
    answer = me.post("/strips", json={"request": REQUEST, "kind": "sweep"} | wanted)
    assert answer.status_code == status
    assert words in answer.json()["message"]

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from webui.library.wordlists import NAMES, WordLists
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.words import add_words_routes
from webui.ui.visitor import at_this_machine


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    for name in NAMES:
        (tmp_path / f"{name}.txt").write_text(f"a {name}\n")
    app = FastAPI()
    answer_errors(app)
    add_words_routes(app, WordLists(tmp_path, tmp_path / "mine"))
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    app.dependency_overrides[at_this_machine] = lambda: None
    return TestClient(app)


def film(client: TestClient) -> dict[str, Any]:
    (found,) = (one for one in client.get("/words").json()["lists"] if one["name"] == "film")
    return found


def test_the_lists_come_in_the_order_of_a_prompt(client: TestClient):
    assert [one["name"] for one in client.get("/words").json()["lists"]] == list(NAMES)
    assert film(client) == {"name": "film", "phrases": ["a film"], "own": False, "broken": None}


def test_a_list_is_edited_and_taken_back(client: TestClient):
    edited = client.put("/words/film", json={"phrases": ["<b>${x}</b>", "soft"]}).json()
    assert edited == film(client)
    assert edited["phrases"] == ["<b>${x}</b>", "soft"]
    assert edited["own"] is True
    assert client.delete("/words/film").json() == film(client)
    assert film(client)["own"] is False


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/words/flim", b'{"phrases": []}', 404),
        ("/words/film", b'{"phrases": "a"}', 422),
        ("/words/film", b'{"phrases": ["a\\nb"]}', 400),
        ("/words/film", b'{"phrases": ["\\ud800"]}', 400),
        ("/words/film", b'{"phrases": ' + b"[" * 10_000, 400),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_saved(
    client: TestClient, tmp_path: Path, path: str, body: bytes, status: int
):
    answer = client.put(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["message"].endswith((".", "?"))
    assert not (tmp_path / "mine").exists()


def test_others_may_look_but_not_change(app: FastAPI, tmp_path: Path):
    visitor = TestClient(app)
    assert film(visitor)["phrases"] == ["a film"]
    assert visitor.put("/words/film", json={"phrases": []}).status_code == 403
    assert visitor.delete("/words/film").status_code == 403
    assert not (tmp_path / "mine").exists()

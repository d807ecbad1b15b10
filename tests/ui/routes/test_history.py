from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.library.pictures import NOON, Reader, write_picture
from tests.ui.routes.client import client_of
from webui.errors import NotFoundError
from webui.library.history import History
from webui.ui.routes.history import add_history_routes

ITEM_KEYS = {
    *("id", "name", "folder", "made", "width", "height", "prompt", "negative_prompt"),
    *("model", "seed", "broken", "thumbnail", "url"),
}


def presets_request(name: str) -> Mapping[str, Any]:
    if name != "few steps":
        raise NotFoundError(f"There is no preset {name!r}.", field="preset")
    return {"steps": 4}


def notices(picture: Path) -> tuple[str, ...]:
    return (f"Something in {picture.name} was left out.",)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "outputs", Reader())) as history:
        for number in range(5):
            recipe = {"prompt": f"hill {number}", "seed": number, "model": "postcard", "steps": 4}
            recipe |= {"model": "other", "steps": 20} if number == 4 else {}
            made = NOON + timedelta(days=number)
            path = history.folder / f"{made:%Y-%m-%d}" / f"{number}.png"
            history.add(write_picture(path, recipe, size=(640, 480), made=made))
        yield history


@pytest.fixture
def app(history: History) -> FastAPI:
    app = FastAPI()
    add_history_routes(app, history, presets_request, notices)
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return client_of(app)


def ask(client: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = client.get("/history", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def seeds(client: TestClient, **parameters: Any) -> list[int]:
    return [item["seed"] for item in ask(client, **parameters)["items"]]


def test_a_page_says_everything_the_page_shows(client: TestClient, history: History):
    page = ask(client)
    assert set(page) == {"items", "cursor", "total", "folder", "indexing", "notice"}
    assert (page["total"], page["cursor"], page["notice"]) == (5, None, None)
    assert page["folder"] == str(history.folder)
    newest = page["items"][0]
    assert set(newest) == ITEM_KEYS
    assert (newest["name"], newest["folder"]) == ("4.png", "2026-05-08")
    assert (newest["width"], newest["height"], newest["broken"]) == (640, 480, None)
    assert newest["made"].startswith("2026-05-08T12:00:00")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"search": "HILL 3"}, [3]),
        ({"model": "other"}, [4]),
        ({"preset": "few steps"}, [3, 2, 1, 0]),
        ({"from": "2026-05-06"}, [4, 3, 2]),
        ({"to": "2026-05-05"}, [1, 0]),
        ({"from": "2026-05-05", "to": "2026-05-05", "model": "postcard"}, [1]),
        ({"trash": True}, []),
        ({"limit": 2}, [4, 3]),
    ],
)
def test_every_filter_has_its_effect(
    client: TestClient, parameters: dict[str, Any], expected: list[int]
):
    assert seeds(client, **parameters) == expected


def test_the_cursor_leads_through_all_pages(client: TestClient):
    page = ask(client, limit=2)
    found = [item["seed"] for item in page["items"]]
    while page["cursor"]:
        page = ask(client, limit=2, cursor=page["cursor"])
        found += [item["seed"] for item in page["items"]]
        assert page["total"] == 5
    assert found == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"preset": "none"}, 404),
        ({"cursor": "x"}, 400),
        ({"search": " ".join(map(str, range(99)))}, 400),
        ({"from": "yesterday"}, 422),
        ({"limit": 0}, 422),
        ({"limit": 501}, 422),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    client: TestClient, parameters: dict[str, Any], status: int
):
    answer = client.get("/history", params=parameters)
    assert answer.status_code == status
    assert answer.json()["message"].endswith(".")


def test_a_picture_its_thumbnail_and_its_recipe(client: TestClient, history: History):
    item = ask(client, search="hill 2")["items"][0]
    file = client.get("/" + item["url"])
    assert file.content == (history.folder / "2026-05-06" / "2.png").read_bytes()
    assert file.headers["content-type"] == "image/png"
    assert file.headers["cache-control"] == "private, no-store"
    assert file.headers["content-disposition"] == 'inline; filename="2.png"'
    small = client.get("/" + item["thumbnail"])
    assert small.headers["content-type"] == "image/webp"
    assert "immutable" in small.headers["cache-control"]
    with Image.open(io.BytesIO(small.content)) as picture:
        assert picture.size == (320, 240)
    recipe = client.get(f"/history/{item['id']}/recipe").json()
    assert recipe["request"] == {
        "prompt": "hill 2",
        "seed": 2,
        "model": "postcard",
        "steps": 4,
    }
    assert recipe["report"] == ["Something in 2.png was left out."]


def test_a_picture_without_a_recipe_and_one_that_is_broken(client: TestClient, history: History):
    bare = history.add(write_picture(history.folder / "bare.jpg.png", made=NOON))
    (history.folder / "broken.webp").write_bytes(b"<svg onload=alert(1)>")
    history.add(history.folder / "broken.webp")
    assert client.get(f"/history/{bare}/recipe").json() == {"request": None, "report": []}
    (item,) = ask(client, search="broken")["items"]
    assert item["broken"] == "broken.webp is not a picture."
    answer = client.get("/" + item["thumbnail"])
    assert (answer.status_code, answer.json()["field"]) == (422, None)
    assert client.get("/" + item["url"]).headers["content-type"] == "image/webp"


@pytest.mark.parametrize("path", ["file", "thumbnail.webp", "recipe"])
@pytest.mark.parametrize("id", ["0" * 24, "..%2f..%2fetc%2fpasswd", "%00", "%ed%a0%80"])
def test_an_id_that_is_none_of_ours_is_404(client: TestClient, path: str, id: str):
    assert client.get(f"/history/{id}/{path}").status_code == 404


def test_trash_restore_and_empty(client: TestClient, history: History):
    ids = [item["id"] for item in ask(client)["items"]]
    answer = client.post("/history/trash", json={"ids": [*ids[:2], "gone", "../x"]})
    assert answer.json()["done"] == ids[:2]
    assert len(answer.json()["problems"]) == 2
    assert seeds(client) == [2, 1, 0]
    assert seeds(client, trash=True) == [4, 3]
    assert ask(client, trash=True)["items"][0]["folder"] == "2026-05-08"
    restored = client.post("/history/restore", json={"ids": ids[:1]}).json()
    assert restored == {"done": ids[:1], "problems": []}
    assert seeds(client) == [4, 2, 1, 0]
    assert client.post("/history/empty").json() == {"done": ids[1:2], "problems": []}
    assert seeds(client, trash=True) == []
    assert not list(history.folder.rglob("3.png"))


def test_half_a_character_for_an_id_is_no_error_of_ours(client: TestClient):
    answer = client.post(
        "/history/trash",
        content=rb'{"ids": ["\ud800"]}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code < 500


def test_what_there_is_to_filter_by(client: TestClient):
    assert client.get("/history/facets").json() == {
        "models": [{"name": "postcard", "count": 4}, {"name": "other", "count": 1}],
        "months": [{"month": "2026-05", "count": 5}],
    }


def test_files_made_elsewhere_are_on_the_first_page(client: TestClient, history: History):
    assert len(seeds(client)) == 5
    write_picture(history.folder / "cli.png", {"prompt": "cli", "seed": 99}, made=NOON)
    until = time.monotonic() + 30
    while not seeds(client, search="cli") and time.monotonic() < until:
        time.sleep(0.01)
    assert seeds(client, search="cli") == [99]


def test_how_far_the_indexing_is(
    client: TestClient, history: History, monkeypatch: pytest.MonkeyPatch
):
    assert ask(client, cursor="2026_0")["indexing"] is None
    monkeypatch.setattr(History, "progress", (3, 20))
    assert ask(client)["indexing"] == {"done": 3, "total": 20}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/history"),
        ("GET", "/history/facets"),
        ("GET", "/history/{id}/file"),
        ("GET", "/history/{id}/thumbnail.webp"),
        ("GET", "/history/{id}/recipe"),
        ("POST", "/history/trash"),
        ("POST", "/history/restore"),
        ("POST", "/history/empty"),
    ],
)
def test_nobody_from_elsewhere_gets_at_any_of_it(
    app: FastAPI, client: TestClient, method: str, path: str
):
    id = ask(client)["items"][0]["id"]
    body = {"ids": [id]} if method == "POST" else None
    answer = client_of(app, local=False).request(method, path.format(id=id), json=body)
    assert answer.status_code == 403
    assert "machine" in answer.json()["message"]
    assert seeds(client) == [4, 3, 2, 1, 0]

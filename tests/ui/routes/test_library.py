from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.fakes import gradient, png
from tests.library.pictures import Reader, write_picture
from tests.library.test_loras import kohya, put
from tests.ui.library_files import stock
from tests.ui.routes.client import client_of
from webui.library.catalogue import Catalogue
from webui.library.hashes import HashBook
from webui.library.hashing import BackgroundHasher
from webui.library.history import History
from webui.library.outward import Outward
from webui.library.presets import PresetShelf
from webui.library.thumbnails import Thumbnails
from webui.request import GenerationRequest
from webui.settings import GIB
from webui.ui.first import FirstModels
from webui.ui.library import Library
from webui.ui.routes.library import add_library_routes


class Shelves:
    """Folders with a history and presets, and the library over them."""

    def __init__(self, root: Path) -> None:
        self.models, self.loras = root / "models", root / "loras"
        self.outputs = root / "outputs"
        self.history = History(self.outputs, Reader())
        self.presets = PresetShelf(root / "shipped", root / "own")
        hashes = HashBook(root / "state" / "hashes.json")
        catalogue = Catalogue((self.models,), (self.loras,), hashes)
        self.cards = catalogue.cards
        self.hasher = BackgroundHasher(catalogue, hashes)
        self.library = Library(
            self.cards, self.history, self.presets, Thumbnails(root / "small"), self.hasher
        )
        self.memory: int | None = None
        self.asked_for_memory = 0
        self.first = FirstModels(
            self.cards, "postcard", self._memory, Outward(loopback=True), "http://127.0.0.1:9"
        )

    def _memory(self) -> int | None:
        self.asked_for_memory += 1
        return self.memory

    def client(self, *, local: bool = True) -> TestClient:
        app = FastAPI()
        add_library_routes(app, self.library, self.first)
        return client_of(app, local=local)


@pytest.fixture
def shelves(tmp_path: Path) -> Iterator[Shelves]:
    shelves = Shelves(tmp_path)
    with closing(shelves.history), closing(shelves.library):
        yield shelves


def rows(client: TestClient) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get("/library").json()["cards"]}


def about(client: TestClient, name: str) -> dict[str, Any]:
    return client.get(f"/library/card/{rows(client)[name]['id']}").json()


def test_everything_is_told_of_the_broken_with_the_reason(shelves: Shelves) -> None:
    stock(shelves.models)
    put(shelves.loras / "ink.safetensors", kohya(), **{"modelspec.license": "CC0"})
    client = shelves.client()
    found = rows(client)
    assert {name: row["kind"] for name, row in found.items()} == {
        "Meadow Photo v5": "model",
        "clear-840000": "vae",
        "ink": "lora",
        "half fetched": "unknown",
        "old painter": "unknown",
    }
    assert found["Meadow Photo v5"]["family"] == "SD 1"
    assert "truncated" in found["half fetched"]["problem"]
    assert "pickle" in found["old painter"]["problem"]
    assert about(client, "ink")["licence"] == "CC0"
    meadow = about(client, "Meadow Photo v5")
    assert (meadow["licence"], meadow["words"]) == (None, ["soft light", "meadow"])
    assert meadow["page"] == "https://civitai.com/models/3?modelVersionId=7"


def test_hashes_come_by_themselves(shelves: Shelves) -> None:
    put(shelves.loras / "ink.safetensors", kohya())
    client = shelves.client()
    deadline = datetime.now().timestamp() + 20
    while rows(client)["ink"]["auto_v2"] is None:
        assert datetime.now().timestamp() < deadline
    assert len(about(client, "ink")["auto_v3"]) == 12


def test_where_it_is_used_and_a_picture_of_it(shelves: Shelves) -> None:
    put(shelves.loras / "styles" / "ink.safetensors", kohya())
    client = shelves.client()
    assert rows(client)["ink"]["picture"] is None
    for n, name in enumerate(("ink", "styles/ink")):
        request = {"loras": [{"name": name}], "prompt": "a hill"}
        write_picture(shelves.outputs / f"{n}.png", request, made=datetime(2026, 5, n + 1))
        shelves.history.add(shelves.outputs / f"{n}.png")
    shelves.presets.store("Ink", "", {"loras": [{"name": "ink"}]}, replace=False)
    row = rows(client)["ink"]
    assert row["used"] == 2
    found = about(client, "ink")
    assert found["presets"] == ["Ink"]
    assert len(found["pictures"]) == 2
    picture = client.get(f"/library/card/{row['id']}/picture.webp")
    assert picture.headers["content-type"] == "image/webp"
    assert picture.content == shelves.history.thumbnail(row["picture"])

    older = found["pictures"][-1]
    chosen = client.put(f"/library/card/{row['id']}/picture", json={"picture": older}).json()
    assert chosen["own_picture"]
    assert (shelves.loras / "styles" / "ink.easel.webp").is_file()
    back = client.put(f"/library/card/{row['id']}/picture", json={"picture": None}).json()
    assert not back["own_picture"]
    assert not (shelves.loras / "styles" / "ink.easel.webp").exists()


def test_a_picture_beside_the_file_stands_for_it(shelves: Shelves) -> None:
    put(shelves.loras / "ink.safetensors", kohya())
    beside = shelves.loras / "ink.preview.png"
    beside.write_bytes(png(gradient(64, 64, 1), GenerationRequest()))
    client = shelves.client()
    address = f"/library/card/{rows(client)['ink']['id']}/picture.webp"
    assert client.get(address).status_code == 200
    beside.write_bytes(b"torn")
    answer = client.get(address)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "ink.preview.png is not a picture.",
    )


def test_notes_are_kept_and_found(shelves: Shelves) -> None:
    put(shelves.loras / "ink.safetensors", kohya())
    client = shelves.client()
    id = rows(client)["ink"]["id"]
    answer = client.put(f"/library/card/{id}/note", json={"note": " best at 0.6 "})
    assert answer.json() == {"note": "best at 0.6"}
    assert about(client, "ink")["note"] == "best at 0.6"
    assert "best at 0.6" in rows(client)["ink"]["found_by"]
    too_long = client.put(f"/library/card/{id}/note", json={"note": "x" * 5000})
    assert too_long.status_code == 400


def test_what_is_not_there_is_said(shelves: Shelves) -> None:
    client = shelves.client()
    for method, path in (("GET", ""), ("GET", "/picture.webp")):
        assert client.request(method, f"/library/card/0123{path}").status_code == 404


def test_visitors_have_no_part_in_it(shelves: Shelves) -> None:
    client = shelves.client(local=False)
    for method, path in (
        ("GET", ""),
        ("GET", "/first"),
        ("GET", "/card/a"),
        ("GET", "/card/a/picture.webp"),
        ("PUT", "/card/a/note"),
        ("PUT", "/card/a/picture"),
    ):
        assert client.request(method, f"/library{path}", json={}).status_code == 403


def test_models_to_begin_with_are_offered_where_there_are_none(shelves: Shelves) -> None:
    client = shelves.client()
    shelves.memory = 8 * GIB
    offered = client.get("/library/first").json()["offered"]
    assert [(one["rank"], one["recommended"]) for one in offered] == [
        ("small", False),
        ("standard", True),
    ]
    # Nothing listens there: that is found out when it is asked for, and no sooner.
    assert client.get("/library/first", params={"network": True}).json() == {"offered": []}
    assert shelves.asked_for_memory == 1
    stock(shelves.models)
    assert client.get("/library/first").json() == {"offered": []}


def test_without_a_graphics_card_nothing_is_offered(shelves: Shelves) -> None:
    assert shelves.client().get("/library/first").json() == {"offered": []}

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
from tests.library import weights as w
from tests.library.pictures import Reader, write_picture
from tests.library.test_catalogue import put_whole
from tests.library.test_hub_cache import put_in_hub
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
        self.hub = root / "hub"
        catalogue = Catalogue((self.models,), (self.loras,), hashes, self.hub)
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
        **dict.fromkeys(("glow", "grey fog", "old hat"), "embedding"),
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
    deadline = datetime.now().timestamp() + 60
    while rows(client)["ink"]["auto_v2"] is None:
        assert datetime.now().timestamp() < deadline
    assert len(about(client, "ink")["auto_v3"]) == 12


def picture_with(shelves: Shelves, request: dict[str, Any], embeddings: tuple[str, ...]) -> str:
    """Adds a picture that is newer than those before it; gives its id."""
    number = len(list(shelves.outputs.glob("*.png")))
    file = shelves.outputs / f"{number}.png"
    made = datetime(2026, 5, number + 1)
    write_picture(file, {"prompt": "a hill"} | request, made=made, embeddings=embeddings)
    id = shelves.history.add(file)
    assert id is not None
    return id


@pytest.mark.parametrize(
    ("file", "shapes", "requests", "preset", "without"),
    [
        (
            "models/deep/meadow.safetensors",
            w.sd1(),
            [{"model": "meadow"}, {"model": "deep/meadow"}],
            {"model": "meadow"},
            {"model": "another"},
        ),
        (
            "models/meadow_refiner.safetensors",
            w.refiner(),
            [{"model": "other", "refiner": "meadow_refiner"}, {"model": "meadow_refiner"}],
            {"refiner": "meadow_refiner"},
            {"model": "meadow"},
        ),
        (
            "models/vae/sub/clear.safetensors",
            w.vae(),
            [{"vae": "sub/clear"}, {"vae": "clear"}],
            {"vae": "sub/clear"},
            {"vae": "clearer"},
        ),
        (
            "loras/styles/ink.safetensors",
            kohya(),
            [{"loras": [{"name": "ink"}]}, {"loras": [{"name": "styles/ink"}]}],
            {"loras": [{"name": "ink"}]},
            {"loras": [{"name": "paper"}]},
        ),
        (
            "models/controlnet/edges/diffusion_pytorch_model.safetensors",
            {"controlnet_x_embedder.weight": (3072, 64)},
            [
                {"controls": [{"model": "edges"}]},
                {"controls": [{"model": None}, {"model": "edges"}]},
            ],
            {"controls": [{"model": "edges", "picture": "0" * 64}]},
            {"controls": [{"model": None, "picture": "0" * 64}]},
        ),
        (
            "models/embeddings/sub/grey fog.safetensors",
            {"emb_params": (8, 768)},
            [{"embeddings": "sub/grey fog"}, {"embeddings": "grey fog"}],
            {"negative_prompt": "a hill in Grey Fog, {prompt}"},
            {"prompt": "a grey foghorn"},
        ),
    ],
)
def test_where_each_kind_is_used_and_a_picture_of_it(
    shelves: Shelves,
    file: str,
    shapes: dict[str, tuple[int, ...]],
    requests: list[dict[str, Any]],
    preset: dict[str, Any],
    without: dict[str, Any],
) -> None:
    w.put(shelves.models.parent / file, shapes)
    client = shelves.client()
    (row,) = client.get("/library").json()["cards"]
    assert (row["used"], row["picture"], row["problem"]) == (0, None, None)
    ids: list[str] = []
    for request in requests:
        words = (request["embeddings"],) if "embeddings" in request else ()
        told = {key: value for key, value in request.items() if key != "embeddings"}
        ids.append(picture_with(shelves, told, words))
    picture_with(shelves, without, ())
    shelves.presets.store("Hills", "", preset, replace=False)
    shelves.presets.store("Others", "", without, replace=False)
    (row,) = client.get("/library").json()["cards"]
    # The newest stands for it.
    assert (row["used"], row["picture"]) == (2, ids[-1])
    found = client.get(f"/library/card/{row['id']}").json()
    assert found["pictures"] == ids[::-1]
    assert found["presets"] == ["Hills"]
    picture = client.get(f"/library/card/{row['id']}/picture.webp")
    assert picture.headers["content-type"] == "image/webp"
    assert picture.content == shelves.history.thumbnail(ids[-1])


def test_one_that_is_its_own_refiner_has_made_a_picture_once(shelves: Shelves) -> None:
    w.put(shelves.models / "meadow.safetensors", w.sdxl())
    picture_with(shelves, {"model": "meadow", "refiner": "meadow"}, ())
    assert rows(shelves.client())["meadow"]["used"] == 1


def test_a_picture_is_chosen_to_stand_for_it(shelves: Shelves) -> None:
    put(shelves.loras / "styles" / "ink.safetensors", kohya())
    client = shelves.client()
    older, _ = [picture_with(shelves, {"loras": [{"name": "ink"}]}, ()) for _ in range(2)]
    row = rows(client)["ink"]
    chosen = client.put(f"/library/card/{row['id']}/picture", json={"picture": older}).json()
    assert chosen["own_picture"]
    assert (shelves.loras / "styles" / "ink.easel.webp").is_file()
    back = client.put(f"/library/card/{row['id']}/picture", json={"picture": None}).json()
    assert not back["own_picture"]
    assert not (shelves.loras / "styles" / "ink.easel.webp").exists()


def test_what_lies_in_the_hubs_cache_is_marked_and_nothing_is_written_there(
    shelves: Shelves,
) -> None:
    snapshot = put_in_hub(shelves.hub, "painter/meadow", put_whole)
    before = sorted(shelves.hub.rglob("*"))
    client = shelves.client()
    row = rows(client)["painter/meadow"]
    assert (row["in_hub"], row["kind"], row["family"]) == (True, "model", "SD 1")
    id = picture_with(shelves, {"model": "painter/meadow"}, ())
    found = about(client, "painter/meadow")
    assert (found["pictures"], found["path"]) == ([id], str(snapshot))
    for path, body in (("note", {"note": "fine"}), ("picture", {"picture": id})):
        answer = client.put(f"/library/card/{row['id']}/{path}", json=body)
        assert answer.status_code == 400
        assert "Hugging Face cache" in answer.json()["message"]
    assert sorted(shelves.hub.rglob("*")) == before


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
    assert client.get("/library/first").json()["reached"] is None
    # Nothing listens there: that is found out when it is asked for, and no sooner.
    looked = client.get("/library/first", params={"network": True}).json()
    assert looked == {"offered": offered, "reached": False}
    assert shelves.asked_for_memory == 1
    stock(shelves.models)
    looked = client.get("/library/first", params={"network": True}).json()
    assert looked == {"offered": [], "reached": None}


def test_without_a_graphics_card_nothing_is_offered(shelves: Shelves) -> None:
    assert shelves.client().get("/library/first").json()["offered"] == []

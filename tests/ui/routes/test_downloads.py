from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.library.download_server import DownloadServer, serving
from tests.ui.library_files import LORA, stock_hub
from tests.ui.routes.client import client_of
from webui.library.downloads import Downloads
from webui.library.kinds import Places
from webui.library.notes import read_notes
from webui.library.offers import Offers
from webui.library.outward import Outward
from webui.ui.fetched import SERVED, keep_origin, kind_and_family
from webui.ui.routes.downloads import add_downloads_routes


@pytest.fixture
def hub() -> Iterator[DownloadServer]:
    with serving() as hub:
        stock_hub(hub)
        yield hub


@pytest.fixture
def downloads(tmp_path: Path) -> Iterator[Downloads]:
    places = Places(tmp_path / "models", tmp_path / "loras")
    outward = Outward(loopback=True)
    downloads = Downloads(outward, places, tmp_path / "state", finished=keep_origin)
    yield downloads
    downloads.close()


def app_over(hub: DownloadServer, downloads: Downloads) -> FastAPI:
    app = FastAPI()
    outward = Outward(loopback=True)
    offers = Offers(outward, kind_and_family, SERVED, hub=hub.address, civitai=hub.address)
    add_downloads_routes(app, offers, downloads)
    return app


@pytest.fixture
def client(hub: DownloadServer, downloads: Downloads) -> TestClient:
    return client_of(app_over(hub, downloads))


def look(client: TestClient, source: str) -> dict[str, Any]:
    return client.post("/downloads/look", json={"source": source}).json()


def test_it_is_looked_at_then_fetched_and_its_origin_kept(
    client: TestClient, downloads: Downloads, tmp_path: Path
) -> None:
    found = look(client, "someone/paper-garden")["found"]
    assert (found["kind"], found["family"], found["licence"]) == ("lora", "SD 1", "CC BY 4.0")
    assert (found["size"], found["checked"], found["folder"]) == (len(LORA), True, "loras")
    answer = client.post("/downloads", json={"found": found["id"]})
    assert answer.status_code == 200
    assert downloads.wait(60)
    (row,) = client.get("/downloads").json()["downloads"]
    assert (row["state"], row["received"]) == ("done", len(LORA))
    file = tmp_path / "loras" / "paper-garden.safetensors"
    assert file.read_bytes() == LORA
    notes = read_notes(file)
    assert (notes.licence, notes.base) == ("CC BY 4.0", "meadow 1.5")
    again = client.post("/downloads", json={"found": found["id"]})
    assert again.status_code == 400
    assert "already" in again.json()["message"]


def test_several_are_told_and_one_is_chosen(client: TestClient) -> None:
    seen = look(client, "someone/two-papers")
    assert seen["found"] is None
    assert seen["choices"]["licence"] == "cc-by-4.0"
    first = seen["choices"]["rows"][0]
    assert look(client, first["source"])["found"]["name"] == "a.safetensors"


def test_it_is_paused_resumed_and_given_up(client: TestClient, downloads: Downloads) -> None:
    found = look(client, "someone/slow-paper")["found"]
    (row,) = client.post("/downloads", json={"found": found["id"]}).json()["downloads"]
    at = f"/downloads/{row['id']}"
    assert client.post(f"{at}/pause").json()["downloads"][0]["state"] == "paused"
    assert downloads.wait(60)
    assert client.post(f"{at}/resume").json()["downloads"][0]["state"] in ("queued", "running")
    assert client.delete(at).json() == {"downloads": []}
    assert client.post(f"{at}/pause").status_code == 404


def test_what_was_not_looked_at_is_not_fetched(client: TestClient) -> None:
    assert client.post("/downloads", json={"found": "0123456789abcdef"}).status_code == 404


def test_no_address_of_a_file_is_told(client: TestClient, hub: DownloadServer) -> None:
    address = hub.put("/secret.safetensors?token=hush", LORA)
    found = look(client, address)
    assert "hush" not in str(found)
    assert found["found"]["host"] == "127.0.0.1"


def test_visitors_have_no_part_in_it(hub: DownloadServer, downloads: Downloads) -> None:
    client = client_of(app_over(hub, downloads), local=False)
    for method, path in (
        ("POST", "/look"),
        ("POST", ""),
        ("GET", ""),
        ("POST", "/a/pause"),
        ("POST", "/a/resume"),
        ("DELETE", "/a"),
    ):
        assert client.request(method, f"/downloads{path}").status_code == 403
    assert hub.asked == []

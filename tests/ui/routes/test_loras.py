from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.library.test_loras import kohya, put
from tests.ui.lora_files import stock
from tests.ui.routes.client import client_of
from webui.library import alike
from webui.library.hashes import HashBook
from webui.library.headers import header_length, read_header
from webui.library.loras import LoraShelf
from webui.ui.routes.loras import add_loras_routes

MANY = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "loras"


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> TestClient:
    app = FastAPI()
    add_loras_routes(app, LoraShelf((folder,), HashBook(tmp_path / "state" / "hashes.json")))
    return client_of(app)


def listed(client: TestClient) -> dict[str, dict[str, Any]]:
    answer = client.get("/loras")
    assert answer.status_code == 200
    return {row["name"]: row for row in answer.json()["loras"]}


def test_every_lora_is_told_of_by_its_header(client: TestClient, folder: Path) -> None:
    stock(folder)
    rows = listed(client)
    assert list(rows) == ["bare", "cut", "grand", "ink", "paper cut"]
    assert rows["ink"] == {
        "name": "ink",
        "path": "styles/ink",
        "file": "styles/ink.safetensors",
        "size": (folder / "styles" / "ink.safetensors").stat().st_size,
        "alias": "ink_v2",
        "family": "SD 1",
        "kind": "lora",
        "rank": 4,
        "alpha": 2.0,
        "parts": ["text_encoder", "unet"],
        "trained_on": "meadow.safetensors",
        "triggers": ["ink drawing", "lines (fine)"],
        "strength": None,
        "problem": None,
    }
    assert [rows[name]["family"] for name in ("bare", "grand")] == ["unknown", "SDXL"]
    assert "truncated" in rows["cut"]["problem"]


def test_the_strength_a_lora_was_made_for_is_told(client: TestClient, folder: Path) -> None:
    put(folder / "Hyper-FLUX.1-dev-8steps-lora.safetensors", kohya())
    (row,) = listed(client).values()
    assert row["strength"] == 0.125


def test_an_empty_shelf_names_its_folder_and_no_path(client: TestClient, tmp_path: Path) -> None:
    answer = client.get("/loras")
    assert answer.json() == {"folder": "loras", "loras": []}
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("name", ["ink", "styles/ink", "ink_v2"])
def test_hashes_are_told_of_any_name(client: TestClient, folder: Path, name: str) -> None:
    file = stock(folder) / "styles" / "ink.safetensors"
    found = client.get("/loras/hashes", params={"name": name}).json()
    data = file.read_bytes()
    assert found["auto_v2"] == hashlib.sha256(data).hexdigest()[:10]
    tensors = data[read_header(file).data_start :]
    assert found["auto_v3"] == hashlib.sha256(tensors).hexdigest()[:12]


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [("gone", 404, "Unknown LoRA 'gone'"), ("cut", 422, "truncated"), ("", 404, "Unknown LoRA ''")],
)
def test_without_hashes_there_is_a_sentence(
    client: TestClient, folder: Path, name: str, status: int, says: str
) -> None:
    stock(folder)
    answer = client.get("/loras/hashes", params={"name": name})
    assert (answer.status_code, says in answer.json()["message"]) == (status, True)


def test_a_thousand_are_read_once_and_listed_in_few_bytes(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = ", ".join(f"word {n}" for n in range(12))
    for n in range(MANY):
        put(folder / f"{n:04}.safetensors", kohya(), **{"modelspec.trigger_phrase": tags})
    read: list[str] = []

    def counted(begin: bytes, *, size: int, file: str) -> int:
        read.append(file)
        return header_length(begin, size=size, file=file)

    monkeypatch.setattr(alike, "header_length", counted)
    first, again = client.get("/loras"), client.get("/loras")
    assert len(read) == MANY
    assert first.content == again.content
    assert len(first.content) < 500 * MANY

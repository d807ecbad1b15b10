from __future__ import annotations

import asyncio
import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from webui.provenance.pngtext import insert_text
from webui.request import GenerationRequest, parse_request
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.reading import add_reading_routes

SHELF = (("Beach v2", "ab" * 32), ("sea.safetensors", "cd" * 32), ("postcard", "ef" * 32))
FIELDS = "Steps: 9, CFG scale: 7, Seed: 3, Size: 64x128"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    answer_errors(app)
    add_reading_routes(app, lambda: SHELF)
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


def png(texts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), "grey").save(buffer, "PNG")
    return insert_text(buffer.getvalue(), texts)


def ours(model: str, sha256: str) -> bytes:
    request = GenerationRequest(prompt="a ball", model=model, seed=3).model_dump(mode="json")
    recipe = {"schema": 1, "request": request, "model": {"name": model, "sha256": sha256}}
    return png({"easel": json.dumps(recipe)})


def pasted(client: TestClient, text: str) -> dict[str, Any]:
    answer = client.post("/read/text", json={"text": text})
    assert answer.status_code == 200
    return answer.json()


def test_a_picture_of_ours(client: TestClient) -> None:
    answer = client.post("/read", content=ours("postcard", "ef" * 32)).json()
    assert parse_request(answer.pop("request")) == GenerationRequest(
        prompt="a ball", model="postcard", seed=3
    )
    assert answer == {"source": "easel", "report": [], "width": 24, "height": 16}


def test_embeddings_that_are_not_here_as_they_were_are_told_of() -> None:
    app = FastAPI()
    here = (("ink", "ab" * 32), ("fog", "cd" * 32), ("glow", "ef" * 32))
    add_reading_routes(app, lambda: SHELF, lambda: here)
    named = "Ink: abababab, fog: 99999999, Bright: efefefefef, gone: 12121212, odd: xyz"
    hashes = json.dumps({"embed:late": "1234567890"}).replace('"', '\\"')
    text = f'a ball\n{FIELDS}, TI hashes: "{named}", Hashes: "{hashes}"'
    assert pasted(TestClient(app), text)["report"] == [
        "The embedding 'fog' here is not the one it was made with.",
        "The embedding 'Bright' is called 'glow' here: write that in its place.",
        "The embedding 'gone' is not here: its name is read as plain text.",
        "The embedding 'late' is not here: its name is read as plain text.",
    ]
    recipe = {"request": {"prompt": "fog"}, "embeddings": [{"name": "fog", "sha256": "9" * 64}, 3]}
    data = png({"easel": json.dumps(recipe)})
    assert TestClient(app).post("/read", content=data).json()["report"] == [
        "The embedding 'fog' here is not the one it was made with."
    ]


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "application/json", ""])
def test_the_content_type_does_not_matter(client: TestClient, kind: str) -> None:
    data = png({"parameters": f"a ball\n{FIELDS}"})
    answer = client.post("/read", content=data, headers={"content-type": kind})
    assert answer.json()["request"]["prompt"] == "a ball"
    assert answer.json()["source"] == "a1111"


def test_a_pasted_text(client: TestClient) -> None:
    assert pasted(client, f"a ball\n{FIELDS}, Eta: 1") == {
        "source": "a1111",
        "request": {
            "prompt": "a ball",
            "negative_prompt": "",
            "width": 64,
            "height": 128,
            "steps": 9,
            "cfg": 7.0,
            "seed": 3,
            "clip_skip": 1,
        },
        "report": ["Fields that are not used here: Eta."],
        "width": None,
        "height": None,
    }


@pytest.mark.parametrize(
    ("stated", "found", "says"),
    [
        ("Model: postcard", "postcard", None),
        ("Model: POSTCARD", "postcard", "'POSTCARD' is 'postcard' here"),
        ("Model: sea", "sea.safetensors", "'sea' is 'sea.safetensors' here"),
        ("Model: sd\\sea.ckpt", "sea.safetensors", "is 'sea.safetensors' here"),
        ("Model: other, Model hash: abababab", "Beach v2", "'other' is 'Beach v2' here"),
        ("Model hash: CDCDCDCDCD", "sea.safetensors", "with the hash cdcdcdcdcd is 'sea"),
        ("Model: other, Model hash: 0123456789", None, "The model 'other' is not here"),
        ("Model hash: 0123456789", None, "with the hash 0123456789 is not here"),
        ("Model: postcard, Model hash: 0123456789", "postcard", None),
        ("User: x", None, None),
    ],
)
def test_the_model_is_matched_to_the_shelf(
    client: TestClient, stated: str, found: str | None, says: str | None
) -> None:
    answer = pasted(client, f"a ball\n{FIELDS}, {stated}")
    assert answer["request"].get("model") == found
    assert len(answer["report"]) == (0 if says is None else 1)
    assert says is None or says in answer["report"][0]


def test_another_model_of_the_same_name_is_told_of(client: TestClient) -> None:
    answer = client.post("/read", content=ours("postcard", "12" * 32)).json()
    assert answer["request"]["model"] == "postcard"
    assert answer["report"] == ["The model 'postcard' here is not the one it was made with."]
    renamed = client.post("/read", content=ours("old name", "cd" * 32)).json()
    assert renamed["request"]["model"] == "sea.safetensors"


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 422, "The file is empty."),
        (b"GIF89a" + b"\0" * 50, 422, "no picture of the kinds"),
        (png({}), 404, "This picture carries no recipe."),
        (png({"workflow": "{}"}), 404, "ComfyUI"),
        (png({"easel": "[" * 10_000}), 422, "not valid JSON"),
    ],
)
def test_errors_are_one_sentence(client: TestClient, data: bytes, status: int, says: str) -> None:
    answer = client.post("/read", content=data)
    assert answer.status_code == status
    assert says in answer.json()["message"]


@pytest.mark.parametrize("body", [{"text": ""}, {"text": 3}, {}, [], {"text": "a" * 1_100_000}])
def test_a_text_that_is_none(client: TestClient, body: object) -> None:
    answer = client.post("/read/text", json=body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["message"].endswith(".")


def test_text_is_answered_as_data(client: TestClient) -> None:
    prompt = "<script>alert(1)</script> ${1+1}"
    answer = client.post("/read/text", json={"text": f"{prompt}\n{FIELDS}"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["request"]["prompt"] == prompt


def sent_in_pieces(app: FastAPI, pieces: Iterator[bytes]) -> tuple[int, dict[str, Any]]:
    """Status and answer, without the test client, which holds the whole body in memory."""
    answer: dict[str, Any] = {"status": 0, "body": b""}

    async def receive() -> dict[str, Any]:
        piece = next(pieces, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Any) -> None:
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/read",
        "headers": [],
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    return answer["status"], json.loads(answer["body"])


def test_a_large_file_is_not_held_in_memory(app: FastAPI) -> None:
    data = png({"parameters": f"a ball\n{FIELDS}"})

    def pieces() -> Iterator[bytes]:
        yield data[:-12]
        for _ in range(600):
            yield (100_000 - 12).to_bytes(4, "big") + b"IDAT" + bytes(100_000 - 12 + 4)
        yield data[-12:]

    tracemalloc.start()
    try:
        status, answer = sent_in_pieces(app, pieces())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (status, answer["request"]["seed"]) == (200, 3)
    assert peak < 8_000_000

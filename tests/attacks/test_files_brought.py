"""Files that are no pictures, or are something else as well."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.ui.hostile import picture
from tests.ui.routes.client import client_of
from webui.errors import NotFoundError
from webui.library.uploads import Uploads
from webui.ui.brought import BroughtIn
from webui.ui.pictures import Pictures
from webui.ui.routes.reading import add_reading_routes
from webui.ui.routes.uploads import add_uploads_routes
from webui.ui.routes.verifying import add_verify_routes

SCRIPT = b"<script>window.hit = 1</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit = 1'><rect/></svg>"
HTML = b"<!doctype html><html><body>" + SCRIPT
PLACES = ("/uploads", "/uploads?kind=mask", "/read", "/verify")


def moving() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (24, 16), shade) for shade in (60, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    def saved(name: str) -> Path:
        raise NotFoundError(name)

    app = FastAPI()
    pictures = Pictures(lambda _: None)
    add_uploads_routes(app, Uploads(tmp_path / "uploads"), BroughtIn(), pictures, saved)
    add_reading_routes(app, lambda: ())
    add_verify_routes(app, lambda: None)
    return client_of(app, local=False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "data",
    [SVG, b"\xef\xbb\xbf" + SVG, gzip.compress(SVG), HTML, moving(), b"GIF89a/*" + picture()],
    ids=["svg", "svg-with-mark", "svgz", "html", "gif", "gif-and-png"],
)
def test_what_is_no_picture_is_refused_and_not_kept(
    client: TestClient, tmp_path: Path, place: str, data: bytes
) -> None:
    answer = client.post(place, content=data)
    assert 400 <= answer.status_code < 500
    message = answer.json()["message"]
    assert "picture" in message
    assert message.endswith(".")
    assert "<" not in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_of_a_picture_that_is_a_page_as_well_only_the_pixels_are_kept(
    client: TestClient, tmp_path: Path
) -> None:
    behind = picture() + HTML
    before = b"\xff\xd8\xff\xfe" + (len(HTML) + 2).to_bytes(2) + HTML + picture("JPEG")[2:]
    for data in (behind, before):
        identity = client.post("/uploads", content=data).json()["id"]
        answer = client.get(f"/uploads/{identity}.png")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
        assert b"script" not in answer.content
        found = client.post("/verify", content=data)
        assert found.headers["content-type"] == "application/json"
        assert found.json()["verdict"] == "unknown"
        assert "script" not in found.text
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert all(b"script" not in data for data in kept)

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.provenance.scenes import marked, opened, recipe, saved_as, scene
from tests.ui.routes.client import client_of
from webui.clearance import Cleared
from webui.errors import StartError
from webui.provenance import verify as verifying
from webui.provenance.c2pa import Signer
from webui.provenance.certificate import Trust, new_identity
from webui.provenance.sign import sign
from webui.ui.routes import verifying as route
from webui.ui.routes.verifying import add_verify_routes

IDENTITY = new_identity()


def client_for(trust: Trust | None, *, local: bool = True) -> TestClient:
    app = FastAPI()
    add_verify_routes(app, lambda: trust)
    return client_of(app, local=local)


@pytest.fixture(scope="module")
def own() -> bytes:
    return sign(Cleared(marked(scene(1)), 0), recipe(), Signer(IDENTITY)).data


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), "orange").save(buffer, "PNG")
    return buffer.getvalue()


def test_every_layer_is_told_to_visitors_too(own: bytes) -> None:
    found = client_for(IDENTITY.trust, local=False).post("/verify", content=own).json()
    assert found["verdict"] == "whole"
    assert (found["kind"], found["width"], found["height"]) == ("PNG", 256, 256)
    assert found["credentials"]["state"] == "own"
    assert found["credentials"]["lineage"]["operation"] == "text"
    assert found["watermark"] == {"present": True, "bits": 64, "of": 64}
    assert found["xmp"] == "trainedAlgorithmicMedia"
    assert found["recipe"]["request"]["prompt"] == "a hill"
    assert found["troubles"] == []


def test_whose_signatures_are_known_is_asked_anew_each_time(own: bytes) -> None:
    trusted: list[Trust | None] = [None, IDENTITY.trust]
    app = FastAPI()
    add_verify_routes(app, lambda: trusted.pop(0))
    client = client_of(app)
    verdicts = [client.post("/verify", content=own).json()["verdict"] for _ in range(2)]
    assert verdicts == ["marked", "whole"]


def test_re_saved_only_the_mark_is_left(own: bytes) -> None:
    saved = saved_as("JPEG", opened(own), 80)
    found = client_for(IDENTITY.trust).post("/verify", content=saved).json()
    assert (found["verdict"], found["recipe"], found["tool"]) == ("marked", None, None)


@pytest.mark.parametrize("body", [b"", b"GIF89a", b"<svg/>", b"<!doctype html>", png()[:40]])
def test_what_is_no_picture_is_refused_in_a_sentence(body: bytes) -> None:
    answer = client_for(None).post("/verify", content=body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("The file is no picture that can be read")


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MAX_FILE_BYTES", 1024**2)
    answer = client_for(None).post("/verify", content=png() + bytes(1024**2))
    assert answer.json()["message"] == "The file is larger than 1 MiB."
    assert answer.status_code == 400


def test_a_damaged_key_is_told() -> None:
    def damaged() -> Trust | None:
        raise StartError("The signing key is damaged.")

    app = FastAPI()
    add_verify_routes(app, damaged)
    answer = client_of(app).post("/verify", content=png())
    assert answer.status_code == 500
    assert answer.json()["message"] == "The signing key is damaged."


def test_pixels_of_one_picture_at_a_time_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = 0, 0
    verify = verifying.verify

    def slow(data: bytes, trust: Trust | None) -> verifying.Verification:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.05)
        now -= 1
        return verify(data, trust)

    monkeypatch.setattr(verifying, "verify", slow)
    with client_for(None) as client:
        asking = [
            threading.Thread(target=client.post, args=("/verify",), kwargs={"content": png()})
            for _ in range(6)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
    assert most == 1


def test_nothing_is_written(own: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    client_for(IDENTITY.trust).post("/verify", content=own)
    assert list(tmp_path.rglob("*")) == []

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tests.ui.routes.client import client_of
from webui.errors import NotFoundError
from webui.events import Saved
from webui.generator import Session
from webui.jobs import Job
from webui.library.origins import Origin
from webui.library.uploads import MAX_FILE_BYTES, Uploads
from webui.request import GenerationRequest
from webui.ui.brought import BroughtIn
from webui.ui.pictures import Pictures
from webui.ui.routes.uploads import add_uploads_routes


def png(colour: str = "orange") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures() -> Pictures:
    return Pictures(lambda path: None)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "saved.png"
    file.write_bytes(png("teal"))
    return file


@pytest.fixture
def app(tmp_path: Path, pictures: Pictures, saved: Path) -> FastAPI:
    def find(name: str) -> Path:
        if name != "abc":
            raise NotFoundError("There is no such picture.")
        return saved

    app = FastAPI()
    add_uploads_routes(app, Uploads(tmp_path / "uploads"), BroughtIn(), pictures, find)
    return app


@pytest.fixture
def me(app: FastAPI) -> TestClient:
    return client_of(app, local=False)


def test_a_picture_is_taken_and_shown_to_who_brought_it(app: FastAPI, me: TestClient) -> None:
    answer = me.post("/uploads", content=png()).json()
    assert (answer["width"], answer["height"]) == (24, 16)
    shown = me.get(f"/uploads/{answer['id']}.png")
    assert hashlib.sha256(shown.content).hexdigest() == answer["id"]
    assert Image.open(io.BytesIO(shown.content)).getpixel((3, 3)) == (255, 165, 0)
    assert client_of(app, local=True, session="owner").get(shown.url.path).status_code == 200


def test_knowing_a_pictures_name_is_not_enough_to_see_it(app: FastAPI, me: TestClient) -> None:
    name = me.post("/uploads", content=png()).json()["id"]
    other = client_of(app, local=False, session="another")
    answer = other.get(f"/uploads/{name}.png")
    unknown = other.get(f"/uploads/{'0' * 64}.png")
    assert (answer.status_code, answer.json()) == (404, unknown.json())
    other.post("/uploads", content=png())
    assert other.get(f"/uploads/{name}.png").status_code == 200


def test_a_mask_is_taken_as_grey(me: TestClient) -> None:
    answer = me.post("/uploads?kind=mask", content=png("white")).json()
    shown = Image.open(io.BytesIO(me.get(f"/uploads/{answer['id']}.png").content))
    assert (shown.mode, shown.getpixel((3, 3))) == ("L", 255)
    assert me.post("/uploads?kind=other", content=png()).status_code == 422


def test_what_is_no_picture_is_said(me: TestClient) -> None:
    answer = me.post("/uploads", content=b"a text")
    assert answer.status_code == 422
    assert "no picture that can be read" in answer.json()["message"]
    answer = me.post("/uploads", content=b"x" * (MAX_FILE_BYTES + 1))
    assert "larger than 25 MB" in answer.json()["message"]


def test_own_results_can_be_taken_by_their_session_only(
    app: FastAPI, me: TestClient, pictures: Pictures, saved: Path
) -> None:
    job = Job(GenerationRequest(), Session(id="me"), lambda job: None)
    event = Saved(path=str(saved), seed=1, sha256="f" * 64, width=24, height=16)
    pictures.keep(job, event)
    answer = me.post("/uploads/picture/" + "f" * 64).json()
    assert me.get(f"/uploads/{answer['id']}.png").status_code == 200
    assert (
        me.get(f"/uploads/{hashlib.sha256(saved.read_bytes()).hexdigest()}.png").status_code == 200
    )
    other = client_of(app, session="another")
    assert other.post("/uploads/picture/" + "f" * 64).status_code == 404


def test_any_saved_picture_can_be_taken_at_this_machine_only(app: FastAPI, me: TestClient) -> None:
    assert me.post("/uploads/history/abc").status_code == 403
    owner = client_of(app, session="owner")
    assert owner.post("/uploads/history/abc").json()["width"] == 24
    assert owner.post("/uploads/history/xyz").status_code == 404


def test_a_file_that_is_gone_is_said(app: FastAPI, saved: Path) -> None:
    saved.unlink()
    answer = client_of(app).post("/uploads/history/abc")
    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "This picture is not here any more.",
    )


def test_a_request_may_only_name_the_sessions_own_pictures() -> None:
    brought = BroughtIn(most=2)
    mine, theirs = Session(id="me", remote=True), Session(id="them", remote=True)
    request = GenerationRequest(init="a" * 64, mask="b" * 64)
    brought.add(mine, "a" * 64)
    with pytest.raises(NotFoundError) as caught:
        brought.check_request(mine, request)
    assert caught.value.field == "mask"
    brought.add(mine, "b" * 64)
    brought.check_request(mine, request)
    with pytest.raises(NotFoundError):
        brought.check_request(theirs, request)
    brought.check_request(Session(id="owner"), request)
    brought.check_request(theirs, GenerationRequest())
    brought.add(theirs, "c" * 64)
    with pytest.raises(NotFoundError):
        brought.check_request(mine, request)


def test_where_a_picture_comes_from_is_judged_by_its_file_as_it_came(
    tmp_path: Path, pictures: Pictures, saved: Path
) -> None:
    judged: list[bytes] = []

    def judge(data: bytes) -> Origin:
        judged.append(data)
        return Origin(tainted=False, has_credentials=True)

    app = FastAPI()
    uploads = Uploads(tmp_path / "judged", judge=judge)
    add_uploads_routes(app, uploads, BroughtIn(), pictures, lambda _: saved)
    job = Job(GenerationRequest(), Session(id="me"), lambda job: None)
    pictures.keep(job, Saved(path=str(saved), seed=1, sha256="f" * 64, width=24, height=16))
    owner = client_of(app, session="me")
    for path, body in (("", png("teal")), ("/picture/" + "f" * 64, None), ("/history/abc", None)):
        name = owner.post(f"/uploads{path}", content=body).json()["id"]
        assert not uploads.origin(name).tainted
    assert judged == [saved.read_bytes()] * 3

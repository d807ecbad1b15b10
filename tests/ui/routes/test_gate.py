from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette

from tests.ui.routes.client import client_of
from webui.errors import GateError
from webui.generator import Session
from webui.levels import LEVELS
from webui.process import EngineStatus
from webui.standing import (
    Answer,
    Declare,
    GiveUp,
    LoggedIn,
    LogIn,
    Look,
    Question,
    Redeem,
    Redirect,
    SendLink,
    Standing,
)
from webui.standing import LevelStanding as OfLevel
from webui.ui.front import BACK, OWN_PATHS, Front
from webui.ui.pagefiles import PageFiles
from webui.ui.routes.gate import add_gate_routes
from webui.ui.routes.static import add_static_routes
from webui.ui.texts import Catalogue

REFUSED = "This code is not valid."
STANDING = Standing(level=0, levels=tuple(OfLevel(level=level) for level in LEVELS), guards=())

POSTS: tuple[tuple[str, dict[str, str] | None], ...] = (
    ("link", None),
    ("declare", {"token": "a token"}),
    ("redeem", {"code": "a code"}),
    ("login", None),
    ("logged-in", {"code": "a code", "state": "a state"}),
    ("give-up", None),
)


class Gate:
    """Notes what it is asked, and answers or refuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[Question, Session]] = []
        self.refuses = False

    def answer(self, question: Question, session: Session) -> Answer:
        self.asked.append((question, session))
        if self.refuses:
            raise GateError(REFUSED)
        return Redirect(address="https://example.org/") if isinstance(question, LogIn) else STANDING


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(gate: Gate) -> FastAPI:
    app = FastAPI()
    add_gate_routes(app, gate.answer)
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return client_of(app)


def test_anybody_may_look(client: TestClient, gate: Gate) -> None:
    answer = client.get("/gate")
    assert Standing.model_validate(answer.json()) == STANDING
    assert answer.headers["cache-control"] == "no-store"
    assert gate.asked == [(Look(), Session(id="me"))]


@pytest.mark.parametrize(
    ("path", "body", "question"),
    [
        ("declare", {"token": "one"}, Declare(token="one")),
        ("redeem", {"code": "ABCD-EFGH é"}, Redeem(code="ABCD-EFGH é")),
        ("logged-in", {"code": "c" * 4_000, "state": "s"}, LoggedIn(code="c" * 4_000, state="s")),
        ("give-up", None, GiveUp()),
    ],
)
def test_a_way_to_a_grant_is_asked_for_and_the_standing_answered(
    client: TestClient, gate: Gate, path: str, body: dict[str, str] | None, question: Question
) -> None:
    answer = client.post(f"/gate/{path}", json=body)
    assert answer.status_code == 200
    assert Standing.model_validate(answer.json()) == STANDING
    assert answer.headers["cache-control"] == "no-store"
    assert gate.asked == [(question, Session(id="me"))]


def test_the_owner_s_link_is_printed_and_not_answered(client: TestClient, gate: Gate) -> None:
    assert client.post("/gate/link").json() == {}
    assert gate.asked[0][0] == SendLink(address="http://testserver/")


@pytest.mark.parametrize(
    ("origin", "back"),
    [
        (None, "http://testserver/gate/back"),
        ("http://testserver", "http://testserver/gate/back"),
        ("https://testserver", "https://testserver/gate/back"),
        ("javascript:1", "http://testserver/gate/back"),
    ],
)
def test_a_login_comes_back_to_the_address_the_browser_knows(
    client: TestClient, gate: Gate, origin: str | None, back: str
) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = client.post("/gate/login", headers=headers)
    assert answer.json()["address"] == "https://example.org/"
    assert gate.asked[0][0] == LogIn(back=back)


def test_the_way_back_needs_no_cookie_and_repeats_nothing(app: FastAPI, gate: Gate) -> None:
    stranger = client_of(app)
    stranger.cookies.clear()
    for query in ("", "?code=<script>&state=s", "?error=access_denied"):
        answer = stranger.get(BACK + query)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"].startswith("text/html")
        assert "<script>" not in answer.text
        assert "style=" not in answer.text
    assert gate.asked == []


def test_the_way_back_s_script_is_served(app: FastAPI, client: TestClient) -> None:
    add_static_routes(app, Catalogue.load(), PageFiles.load())
    (source,) = re.findall(r'src="\.\.(/[^"]+)"', client.get(BACK).text)
    assert "gate=" in client.get(source).text


def test_every_refusal_is_the_gate_s_sentence(
    client: TestClient, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    gate.refuses = True
    for path, body in POSTS:
        answer = client.post(f"/gate/{path}", json=body)
        assert answer.status_code == 403
        assert answer.json() == {"message": REFUSED, "field": None}
    told = " ".join(r.getMessage() for r in caplog.records if not r.name.startswith("httpx"))
    for secret in ("a token", "a code", "a state"):
        assert secret not in told


def test_what_changes_something_is_no_get(client: TestClient, gate: Gate) -> None:
    for path, _ in POSTS:
        assert client.get(f"/gate/{path}?token=a&code=a&state=a").status_code == 405
    assert client.post("/gate").status_code == 405
    assert gate.asked == []


def test_the_owner_s_ways_are_for_this_machine(app: FastAPI, gate: Gate) -> None:
    visitor = client_of(app, local=False)
    for path, body in POSTS[:2]:
        assert visitor.post(f"/gate/{path}", json=body).status_code == 403
    assert gate.asked == []
    for path, body in POSTS[2:]:
        assert visitor.post(f"/gate/{path}", json=body).status_code == 200
    assert [session for _, session in gate.asked] == [Session(id="me", remote=True)] * 4


SECRET = "not to be repeated"
HOSTILE: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"not to be repeated": "not to be repeated"}',
    b'{"token": null, "code": null, "state": null}',
    b'{"token": ["not to be repeated"], "code": {"a": 1}, "state": true}',
    b'{"token": "\\ud800", "code": "\\ud800", "state": "s"}',
    b'{"token": "%b", "code": "%b", "state": "s"}' % (b"a" * 5_000, b"a" * 5_000),
    b'{"token": NaN, "code": Infinity, "state": 1e999}',
    b'{"token": ' + b"[" * 10_000,
    b"\xff\xfe",
    b"token=not to be repeated",
)


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("path", ["declare", "redeem", "logged-in"])
def test_a_hostile_body_is_one_sentence(
    client: TestClient, gate: Gate, path: str, body: bytes
) -> None:
    answer = client.post(
        f"/gate/{path}", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    said: dict[str, Any] = answer.json()
    assert set(said) == {"message", "field"}
    assert said["message"][-1] in ".?"
    assert len(said["message"]) < 400
    assert "\n" not in said["message"]
    assert SECRET not in said["message"]
    assert gate.asked == []


def test_the_front_lets_them_through_and_a_way_back_does_not_end_the_session(app: FastAPI) -> None:
    assert "gate" in OWN_PATHS

    async def build() -> Starlette:
        return app

    async def cookies() -> list[str | None]:
        status = EngineStatus(phase="ready", message="")
        front = Front(names=frozenset({"localhost"}), status=lambda: status, build=build)
        running = asyncio.create_task(front.run_page())
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=front), base_url="http://localhost"
        ) as strange:
            while not (await strange.get("/status")).json()["page"]:
                await asyncio.sleep(0.01)
            strange.cookies.clear()
            answers = [await strange.get(path) for path in (f"{BACK}?code=a&state=b", "/gate")]
        running.cancel()
        assert [answer.status_code for answer in answers] == [200, 200]
        return [answer.headers.get("set-cookie") for answer in answers]

    back, other = asyncio.run(cookies())
    assert back is None
    assert other is not None

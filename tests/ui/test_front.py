from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from webui.process import EngineStatus
from webui.ui.front import (
    LOCAL,
    MAX_BODY_BYTES,
    MAX_FILE_BYTES,
    SESSION_COOKIE,
    Front,
    allowed_host,
    known_names,
)

NAMES = frozenset({"localhost"})
LOADING = EngineStatus(phase="loading", message="Loading torch")


async def echo(request: Request) -> JSONResponse:
    return JSONResponse(dict(request.headers) | {"session": request.cookies[SESSION_COOKIE]})


def page() -> Starlette:
    return Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])])


@contextlib.asynccontextmanager
async def client(
    build: Callable[[], Awaitable[Starlette]], *, wait: bool = True
) -> AsyncGenerator[httpx.AsyncClient, None]:
    front = Front(names=NAMES, status=lambda: LOADING, build=build)
    running = asyncio.create_task(front.run_page())
    transport = httpx.ASGITransport(app=front)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7860") as asks:
        while wait and not (await asks.get("/status")).json()["page"]:
            await asyncio.sleep(0.01)
        yield asks
    running.cancel()


async def at_once() -> Starlette:
    return page()


def ask(method: str, path: str, **options: Any) -> httpx.Response:
    async def one() -> httpx.Response:
        async with client(at_once) as asks:
            return await asks.request(method, path, **options)

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("localhost:7860", True),
        ("LOCALHOST", True),
        ("localhost.:7860", True),
        ("127.0.0.1:7860", True),
        ("192.168.1.20:7860", True),
        ("[::1]:7860", True),
        ("evil.example", False),
        ("evil.example:7860", False),
        ("127.0.0.1.evil.example:7860", False),
        ("localhost.evil.example", False),
        ("[::1].evil.example", False),
        ("", False),
    ],
)
def test_only_addresses_and_known_names_are_answered(header: str, allowed: bool) -> None:
    assert allowed_host(header, NAMES) is allowed
    answer = ask("GET", "/", headers={"host": header})
    assert answer.status_code == (200 if allowed else 421)


def test_configured_names_are_added_to_the_machines_own() -> None:
    names = known_names("Pictures.Example")
    assert {"localhost", "pictures.example"} <= names
    assert allowed_host("pictures.example:443", names)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:7860", 200),
        ("https://localhost:7860", 200),
        ("http://evil.example", 403),
        ("http://localhost:9999", 403),
        ("null", 403),
    ],
)
def test_a_page_of_another_site_cannot_write(origin: str, status: int) -> None:
    answer = ask("POST", "/look", headers={"origin": origin}, content=b"{}")
    assert answer.status_code == status


def test_bodies_are_bounded_and_their_length_is_known() -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"{}"

    path = "/look"
    assert ask("POST", path, content=b"x" * MAX_BODY_BYTES).status_code == 200
    assert ask("POST", path, content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert ask("POST", path, content=chunks()).status_code == 411


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://localhost/",
        "/gradio_api/deep_link",
        "/gradio_api/cancel",
        "/gradio_api/call/generate",
        "/gradio_api/run/generate",
        "/gradio_api/upload",
        "/gradio_api/runs",
        "/gradio_api/heartbeat/a/b",
        "/monitoring",
        "/docs",
        "/login",
        "/status/",
    ],
)
def test_routes_the_page_does_not_use_are_shut(path: str) -> None:
    for method in ("GET", "POST"):
        assert ask(method, path).status_code == 404


def test_the_session_is_a_cookie_scripts_cannot_read_given_once() -> None:
    async def visits() -> tuple[httpx.Response, httpx.Response]:
        async with client(at_once) as asks:
            asks.cookies.clear()
            return await asks.get("/"), await asks.get("/")

    first, second = asyncio.run(visits())
    given = first.headers["set-cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Strict" in given
    session = first.cookies[SESSION_COOKIE]
    assert len(session) == 43  # 256 bits in base64
    assert "set-cookie" not in second.headers
    assert first.json()["session"] == second.json()["session"] == session


@pytest.mark.parametrize("cookie", ["short", "a" * 42 + ";", "../" * 15, "a" * 44])
def test_a_session_nobody_was_given_is_replaced(cookie: str) -> None:
    answer = ask("GET", "/", headers={"cookie": f"{SESSION_COOKIE}={cookie}"})
    assert answer.json()["session"] == answer.cookies[SESSION_COOKIE] != cookie


def test_what_a_proxy_or_another_program_wrote_does_not_reach_the_page() -> None:
    headers = {
        "forwarded": "for=1.2.3.4",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-host": "evil.example",
        "x-real-ip": "1.2.3.4",
        "cookie": "other=1",
        "accept-language": "en",
    }
    seen = ask("GET", "/", headers=headers).json()
    assert seen["accept-language"] == "en"
    assert seen["cookie"] == f"{SESSION_COOKIE}={seen['session']}"
    assert not any("forwarded" in name or name == "x-real-ip" for name in seen)


def test_every_answer_forbids_other_hosts_and_guessing_of_types() -> None:
    for answer in (ask("GET", "/"), ask("GET", "/status"), ask("GET", "/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert "*" not in policy


def test_the_starting_page_says_what_is_loading_and_gives_way_to_the_real_one() -> None:
    async def story() -> None:
        ready = asyncio.Event()

        async def later() -> Starlette:
            await ready.wait()
            return page()

        async with client(later, wait=False) as asks:
            starting = await asks.get("/")
            assert starting.status_code == 200
            assert "Easel is starting" in starting.text
            assert "http-equiv" in starting.text
            written = re.search(r'id="words">(.*?)</script>', starting.text)
            assert written
            words = json.loads(written[1])
            assert set(words) >= {"en", "de", "es"}
            assert words["de"]["server.starting"] == "Easel startet"
            status = {"page": False, "phase": "loading", "message": "Loading torch"}
            assert (await asks.get("/status")).json() == status
            early = await asks.post("/gradio_api/queue/join", content=b"{}")
            assert (early.status_code, early.headers["retry-after"]) == (503, "1")
            ready.set()
            while not (await asks.get("/status")).json()["page"]:
                await asyncio.sleep(0.01)
            assert "session" in (await asks.get("/")).json()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_a_page_that_cannot_be_built_is_an_error_of_run_page() -> None:
    async def broken() -> Starlette:
        raise ImportError("nothing there")

    front = Front(names=NAMES, status=lambda: LOADING, build=broken)
    with pytest.raises(ImportError, match="nothing there"):
        asyncio.run(front.run_page())


async def local(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(str(scope[LOCAL]))(scope, receive, send)


async def local_page() -> Starlette:
    return Starlette(routes=[Mount("/", local)])


@pytest.mark.parametrize(
    ("client_at", "headers", "here"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {"host": "[::1]:7860"}, True),
        ("127.0.0.1", {"host": "127.0.0.1:7860"}, True),
        ("192.168.1.20", {}, False),
        ("127.0.0.1", {"host": "192.168.1.20:7860"}, False),
        ("127.0.0.1", {"host": "pictures.example"}, False),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, False),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
    ],
)
def test_only_a_person_at_this_machine_counts_as_being_here(
    client_at: str, headers: dict[str, str], here: bool
) -> None:
    async def one() -> str:
        names = NAMES | {"pictures.example"}
        front = Front(names=names, status=lambda: LOADING, build=local_page)
        running = asyncio.create_task(front.run_page())
        transport = httpx.ASGITransport(app=front, client=(client_at, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asks:
            while not (await asks.get("/status")).json()["page"]:
                await asyncio.sleep(0.01)
            answer = await asks.get("/shelf", headers=headers)
        running.cancel()
        return answer.text

    assert asyncio.run(one()) == str(here)


def test_files_may_be_larger_than_requests_and_both_have_an_end() -> None:
    def status(path: str, length: int) -> int:
        headers = {"content-length": str(length), "content-type": "application/octet-stream"}
        return ask("POST", path, headers=headers).status_code

    assert status("/look", MAX_BODY_BYTES) == 200
    assert status("/look", MAX_BODY_BYTES + 1) == 413
    assert status("/read", MAX_FILE_BYTES) == 200
    assert status("/read", MAX_FILE_BYTES + 1) == 413

"""A login takes the browser to another site and back: with the session that it left with."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import BrowserContext, Page
from starlette.applications import Starlette

from tests.safety.provider import Provider, providing
from webui.errors import GateError
from webui.generator import Session
from webui.levels import LEVELS, Level
from webui.process import EngineStatus
from webui.safety.issuer import Issuer
from webui.standing import Answer, LevelStanding, LoggedIn, LogIn, Question, Redirect, Standing
from webui.ui.front import SESSION_COOKIE, Front
from webui.ui.pagefiles import PageFiles
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.gate import add_gate_routes
from webui.ui.routes.static import add_static_routes
from webui.ui.texts import Catalogue

pytestmark = pytest.mark.browser

LOG_IN = """async () => {
  const answer = await fetch("/gate/login", { method: "POST" });
  location.assign((await answer.json()).address);
}"""
LEVEL = """async () => (await (await fetch("/gate")).json()).level"""


@dataclass
class Gate:
    """Grants what the provider's logins are good for."""

    issuer: Issuer
    granted: dict[str, Level] = field(default_factory=dict[str, Level])

    def answer(self, question: Question, session: Session) -> Answer:
        match question:
            case LogIn():
                return Redirect(address=self.issuer.begin(session.id, question.back))
            case LoggedIn():
                level = self.issuer.finish(session.id, question.code, question.state)
                self.granted[session.id] = level
            case _:
                pass
        levels = tuple(LevelStanding(level=level) for level in LEVELS)
        return Standing(level=self.granted.get(session.id, 0), levels=levels, guards=())


@pytest.fixture(scope="module")
def provider() -> Generator[Provider]:
    """On another site: names count, and not what they stand for."""
    with providing("localhost") as provider:
        # Sent back at once, a browser counts the way as begun by our own page.
        provider.shows_a_page = True
        yield provider


@pytest.fixture
def gate(provider: Provider) -> Gate:
    provider.forge = str
    return Gate(Issuer(provider.policy(level=1)))


@pytest.fixture
def address(gate: Gate) -> Generator[str]:
    """A page with nothing on it, behind the real front."""
    app = FastAPI()
    answer_errors(app)
    add_static_routes(app, Catalogue.load(), PageFiles.load())
    add_gate_routes(app, gate.answer)

    @app.get("/")
    def root() -> HTMLResponse:  # pyright: ignore[reportUnusedFunction]
        return HTMLResponse("<title>Easel</title><p>A page</p>")

    async def build() -> Starlette:
        return app

    status = EngineStatus(phase="ready", message="")
    front = Front(names=frozenset(), status=lambda: status, build=build)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(front)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


class _Server(uvicorn.Server):
    """Runs the page beside the connections, as `webui.ui.server` does."""

    def __init__(self, front: Front) -> None:
        config = uvicorn.Config(
            front, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        super().__init__(config)
        self._front = front

    async def main_loop(self) -> None:
        page = asyncio.create_task(self._front.run_page())
        await super().main_loop()
        page.cancel()


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    deadline = time.monotonic() + 60
    while page.goto(address) and page.title() != "Easel":
        assert time.monotonic() < deadline
    return page


def log_in(page: Page) -> None:
    page.evaluate(LOG_IN)
    page.get_by_text("Log in").click()


def session_of(context: BrowserContext, address: str) -> str:
    (cookie,) = [one for one in context.cookies(address) if one.get("name") == SESSION_COOKIE]
    assert cookie.get("sameSite") == "Strict"
    return cookie.get("value", "")


def test_a_login_comes_back_with_its_session(
    context: BrowserContext, address: str, gate: Gate, provider: Provider
) -> None:
    page = opened(context, address)
    session = session_of(context, address)
    assert page.evaluate(LEVEL) == 0
    seen: list[str] = []
    page.on("framenavigated", lambda frame: seen.append(frame.url))
    log_in(page)
    page.wait_for_url(f"{address}/#gate=ok")
    assert page.evaluate(LEVEL) == 1
    assert gate.granted == {session: 1}
    assert session_of(context, address) == session
    assert any(url.startswith(f"{address}/gate/back") for url in seen)
    assert provider.address.startswith("http://localhost:")
    page.go_back()
    assert "code=" not in page.url


def test_a_login_that_is_not_accepted_comes_back_too(
    context: BrowserContext, address: str, gate: Gate, provider: Provider
) -> None:
    provider.changed(age_over_18="true")
    page = opened(context, address)
    session = session_of(context, address)
    log_in(page)
    page.wait_for_url(f"{address}/#gate=refused")
    assert page.evaluate(LEVEL) == 0
    assert gate.granted == {}
    assert session_of(context, address) == session


def test_a_login_that_was_broken_off_comes_back_too(
    context: BrowserContext, address: str, provider: Provider
) -> None:
    page = opened(context, address)
    session = session_of(context, address)
    page.goto(f"{address}/gate/back?error=access_denied&state=any")
    page.wait_for_url(f"{address}/#gate=refused")
    assert session_of(context, address) == session


def test_a_link_from_elsewhere_logs_nobody_in(
    context: BrowserContext, address: str, gate: Gate, provider: Provider
) -> None:
    begun = gate.issuer.begin("whoever made the link", f"{address}/gate/back")
    code, state = provider.visit(f"{begun}&pressed=1")
    page = opened(context, address)
    session = session_of(context, address)
    page.goto(f"{provider.address}/elsewhere")
    page.evaluate(
        "(there) => { location.href = there; }", f"{address}/gate/back?code={code}&state={state}"
    )
    page.wait_for_url(f"{address}/#gate=refused")
    assert gate.granted == {}
    assert session_of(context, address) == session
    with pytest.raises(GateError):
        gate.issuer.finish("whoever made the link", code, state)

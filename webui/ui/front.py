"""What every request passes before it reaches the page: host, origin, password, session, headers.

Imports neither Gradio nor FastAPI: this answers while they are still being imported.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.ui.asking import ASKING, ENTER, asked
from webui.ui.bodies import (
    MAX_BODY_BYTES,
    MAX_FILE_BYTES,
    FileTurns,
    NoTurnError,
    body_refusal,
    head_refusal,
)
from webui.ui.door import Door
from webui.ui.hosts import allowed_host, known_names, name_in
from webui.ui.origins import come_again, is_foreign, may_be_foreign
from webui.ui.refusals import refused
from webui.ui.sessions import (
    LOCAL,
    SESSION_COOKIE,
    SHARED,
    cookie_of,
    new_session,
    session_in,
    with_session,
)
from webui.ui.share import Share
from webui.ui.streams import of_own
from webui.ui.texts import Catalogue

__all__ = [
    "LOCAL",
    "MAX_BODY_BYTES",
    "MAX_FILE_BYTES",
    "OWN_PATHS",
    "SESSION_COOKIE",
    "Front",
    "Status",
    "allowed_host",
    "known_names",
]

MOST_REQUESTS = 32
"""Requests of one session at the same time, streams of events included."""

_STARTING_PAGE = Path(__file__).parent / "assets" / "starting.html"
_STARTING_WORDS = (
    "server.starting",
    "server.opening",
    "server.running",
    "engine.starting",
    "engine.loading",
)

_SOURCES = (
    # Gradio's page evaluates its components' templates and styles, hence the two "unsafe" words;
    # what matters here is that nothing is fetched from, or sent to, another host.
    ("default-src", "'self'"),
    ("script-src", "'self' 'unsafe-inline' 'unsafe-eval'"),
    ("style-src", "'self' 'unsafe-inline'"),
    ("img-src", "'self' data: blob:"),
    ("font-src", "'self' data:"),
    ("connect-src", "'self'"),
    ("worker-src", "'self' blob:"),
    ("object-src", "'none'"),
    ("base-uri", "'self'"),
    ("form-action", "'self'"),
    ("frame-ancestors", "'self'"),
)
_HEADERS = (
    ("content-security-policy", "; ".join(" ".join(pair) for pair in _SOURCES)),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)

OWN_PATHS = (
    *("page", "texts", "shelf", "look", "read"),
    *("pictures", "history", "presets", "words", "uploads"),
    *("poses", "loras", "controlnets", "strips", "share", "verify", "gate"),
    *("library", "downloads", "embeddings"),
)
"""What our own routes (`webui.ui.routes`) begin with."""

_SAME_FOR_ALL = re.compile(
    r"/(theme\.css|manifest\.json|favicon\.ico|icon\.svg|(assets|static|page|texts)/.+)"
)
"""What is nobody's in particular and may be kept by browsers."""

BACK = "/gate/back"
"""Where login providers send browsers to: a request from another site, so without our cookie."""

_OPEN_PATHS = re.compile(
    r"/(config|theme\.css|manifest\.json|favicon\.ico|icon\.svg|status|enter|(assets|static)/.+"
    r"|gradio_api/(queue/(join|data)|heartbeat/\w+|startup-events|app_id)"
    rf"|({'|'.join(OWN_PATHS)})(/.+)?)?"
)
"""What the page asks for.

The rest of Gradio's routes (files, proxy, deep links, monitoring, recorded runs, direct calls,
cancelling another's event) guards nothing by itself and stays shut.
"""


class Status(Protocol):
    """How far the engine is: `webui.process.EngineStatus`."""

    @property
    def phase(self) -> str:
        """One of "starting", "loading", "ready", "failed"."""
        ...

    @property
    def message(self) -> str:
        """A short line for the user."""
        ...


class Front:
    """The ASGI application: a starting page at once, the real page as soon as it is built.

    Args:
        names: Host names the server goes by (`known_names`).
        status: How far the engine is.
        build: Returns the real application; awaited once, at start.
        door: Lets visitors in who are not at this machine; `None`: they all are.
        share: Knows the host name of what comes in with `SHARED` in the scope.
    """

    def __init__(
        self,
        *,
        names: frozenset[str],
        status: Callable[[], Status],
        build: Callable[[], Awaitable[Starlette]],
        door: Door | None = None,
        share: Share | None = None,
    ) -> None:
        self._names = names
        self._status = status
        self._build = build
        self._door = door
        self._share = share
        self._page: ASGIApp | None = None
        self._open: Counter[str] = Counter()
        self._turns = FileTurns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; see the ASGI specification."""
        known = session_in(scope)
        session = known or new_session()
        scope = with_session(scope, session)
        answer: ASGIApp | None = head_refusal(scope) or self._wrong_host(scope)
        given = None
        if answer is None and known is None and is_foreign(scope):
            # The cookie may be there and was not sent; asked from here, it will be.
            answer = _refusal(scope) or come_again()
        if answer is None and self._is_outside(scope, session):
            answer, given = await self._answer_outside(scope, receive, session)
        answer = answer or _refusal(scope)
        if answer is None:
            is_new = known is None and scope["path"] != BACK
            given = session if given is None and is_new else given
            answer = self._answer_of_page(scope, session)
        secure = self._share is not None and bool(scope.get(SHARED)) and self._share.is_secure
        cookie = None if given is None else cookie_of(given, secure=secure)
        await answer(scope, receive, _with_headers(send, scope, cookie))

    async def run_page(self) -> None:
        """Builds the page and keeps it running until cancelled.

        Raises:
            Exception: Whatever kept the page from being built.
        """
        page = await self._build()
        async with page.router.lifespan_context(page):
            self._page = page
            await asyncio.Event().wait()

    def _wrong_host(self, scope: Scope) -> Response | None:
        host = Headers(scope=scope).get("host", "")
        if scope.get(SHARED, False):
            names = self._share.names if self._share is not None else frozenset[str]()
            return None if name_in(host) in names else refused("There is nothing here.", 421)
        if allowed_host(host, self._names):
            return None
        return PlainTextResponse(
            f"This server does not go by the name {host!r}: use its address, or start it with"
            " --allow-host and that name.",
            421,
        )

    def _is_outside(self, scope: Scope, session: str) -> bool:
        return self._door is not None and not (scope[LOCAL] or self._door.is_open_to(session))

    async def _answer_outside(
        self, scope: Scope, receive: Receive, session: str
    ) -> tuple[Response, str | None]:
        """The answer to a visitor without the password; and the session of one who gave it."""
        assert self._door is not None
        if scope["path"] in ASKING and (answer := _refusal(scope)) is not None:
            return answer, None
        return await asked(Request(scope, receive), self._door, session)

    def _answer_of_page(self, scope: Scope, session: str) -> ASGIApp:
        path = scope["path"]
        if path == "/status":
            status = self._status()
            content = {
                "page": self._page is not None,
                "phase": status.phase,
                "message": status.message,
            }
            return JSONResponse(content)
        if path == ENTER:
            return refused("There is nothing here.", 404)
        if self._page is None:
            return HTMLResponse(_starting_page()) if path == "/" else _not_yet
        return self._bounded(of_own(self._page, session), session)

    def _bounded(self, page: ASGIApp, session: str) -> ASGIApp:
        """The page, within what one session may do at the same time."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if self._open[session] >= MOST_REQUESTS:
                await refused(_TOO_MANY, 429)(scope, receive, send)
                return
            self._open[session] += 1
            try:
                async with self._turns.turn(scope, local=scope[LOCAL]):
                    await page(scope, receive, send)
            except NoTurnError:
                await refused(_NO_TURN, 503)(scope, receive, send)
            except ClientDisconnect:
                # Who has gone away needs no answer.
                pass
            finally:
                self._open[session] -= 1
                if not self._open[session]:
                    del self._open[session]

        return answer


_TOO_MANY = "Too many requests of yours are open: close a tab of this page."
_NO_TURN = "Too many files are being brought in: try again in a moment."


def _starting_page() -> str:
    """The page that is there first, with its few words in every language."""
    catalogue = Catalogue.load()
    words = {
        code: {key: catalogue.of(code)(key) for key in _STARTING_WORDS}
        for code in catalogue.languages()
    }
    return _STARTING_PAGE.read_text(encoding="utf-8").replace("{words}", json.dumps(words))


async def _not_yet(scope: Scope, receive: Receive, send: Send) -> None:
    sentence = "Easel is starting: try again in a moment."
    await PlainTextResponse(sentence, 503, {"retry-after": "1"})(scope, receive, send)


def _refusal(scope: Scope) -> Response | None:
    """The answer to a request that must not reach the page; `None` when it may."""
    if not _OPEN_PATHS.fullmatch(scope["path"]):
        return refused("There is nothing here.", 404)
    if is_foreign(scope) and not may_be_foreign(scope):
        return refused("This request comes from a page of another site.", 403)
    return body_refusal(scope)


def _with_headers(send: Send, scope: Scope, cookie: str | None) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS:
                headers.setdefault(name, value)
            if not _SAME_FOR_ALL.fullmatch(scope["path"]) and not (
                scope[LOCAL] and "cache-control" in headers
            ):
                headers["cache-control"] = "no-store"
            if cookie is not None:
                headers.append("set-cookie", cookie)
        await send(message)

    return send_with_headers

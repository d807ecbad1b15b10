"""What every request passes before it reaches the page: host, origin, session, headers.

Imports neither Gradio nor FastAPI: this answers while they are still being imported.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webui.ui.texts import Catalogue

SESSION_COOKIE = "easel_session"
LOCAL = "easel.local"
"""Key of the scope: whether the asker is known to sit at this machine."""

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}")

_STARTING_PAGE = Path(__file__).parent / "assets" / "starting.html"
_STARTING_WORDS = (
    "server.starting",
    "server.opening",
    "server.running",
    "engine.starting",
    "engine.loading",
)

MAX_BODY_BYTES = 1024**2
"""Largest body taken, where it is no file: a request is text."""

MAX_FILE_BYTES = 64 * 1024**2
"""Largest file that can be brought in."""

_FILES = frozenset({"/read", "/presets/import", "/uploads", "/poses/read"})
"""Where files are brought in."""

_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
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
_FORWARDED = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip")

OWN_PATHS = (
    *("page", "texts", "shelf", "look", "read"),
    *("pictures", "history", "presets", "words", "uploads"),
    *("poses", "loras", "controlnets", "strips", "gate", "share"),
)
"""What our own routes (`webui.ui.routes`) begin with."""

BACK = "/gate/back"
"""Where login providers send browsers to: a request from another site, so without our cookie."""

_OPEN_PATHS = re.compile(
    r"/(config|theme\.css|manifest\.json|favicon\.ico|icon\.svg|status|(assets|static)/.+"
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


def allowed_host(header: str, names: frozenset[str]) -> bool:
    """Whether a request's Host header is one this server goes by.

    A page of another site can make a name of its own point at this machine (DNS rebinding) and
    then read what it likes; it cannot do that with an address, so addresses are always fine.
    """
    name = header.rpartition(":")[0] if re.search(r":\d*$", header) else header
    name = name.casefold().removesuffix(".")
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in names
    return True


def known_names(*more: str) -> frozenset[str]:
    """Names this server may be called by: localhost, the machine's own, and `more`."""
    machine = socket.gethostname().casefold()
    own = ("localhost", machine, f"{machine.partition('.')[0]}.local")
    return frozenset({*own, *(name.casefold() for name in more)})


class Front:
    """The ASGI application: a starting page at once, the real page as soon as it is built.

    Args:
        names: Host names the server goes by (`known_names`).
        status: How far the engine is.
        build: Returns the real application; awaited once, at start.
    """

    def __init__(
        self,
        *,
        names: frozenset[str],
        status: Callable[[], Status],
        build: Callable[[], Awaitable[Starlette]],
    ) -> None:
        self._names = names
        self._status = status
        self._build = build
        self._page: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; see the ASGI specification."""
        answer = _refusal(scope, self._names)
        session, is_new = _session_of(scope)
        if answer is None:
            scope = _with_session(scope, session)
            answer = self._own_answer(scope["path"]) or self._page or _not_yet
        given = session if is_new and scope["path"] != BACK else None
        await answer(scope, receive, _with_headers(send, given))

    async def run_page(self) -> None:
        """Builds the page and keeps it running until cancelled.

        Raises:
            Exception: Whatever kept the page from being built.
        """
        page = await self._build()
        async with page.router.lifespan_context(page):
            self._page = page
            await asyncio.Event().wait()

    def _own_answer(self, path: str) -> Response | None:
        if path == "/status":
            status = self._status()
            content = {
                "page": self._page is not None,
                "phase": status.phase,
                "message": status.message,
            }
            return JSONResponse(content, headers={"cache-control": "no-store"})
        if path == "/" and self._page is None:
            return HTMLResponse(_starting_page(), headers={"cache-control": "no-store"})
        return None


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


def _refusal(scope: Scope, names: frozenset[str]) -> Response | None:
    """The answer to a request that must not reach the page; `None` when it may."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not allowed_host(host, names):
        return PlainTextResponse(
            f"This server does not go by the name {host!r}: use its address, or start it with"
            " --allow-host and that name.",
            421,
        )
    if not _OPEN_PATHS.fullmatch(scope["path"]):
        return _refused("There is nothing here.", 404)
    if scope["method"] not in _WRITES:
        return None
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].casefold() != host.casefold():
        return _refused("This request comes from a page of another site.", 403)
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return _refused("The length of the request must be given.", 411)
    most = MAX_FILE_BYTES if scope["path"] in _FILES else MAX_BODY_BYTES
    if int(length) > most:
        return _refused(f"This is too large: at most {most // 1024**2} MiB can be sent.", 413)
    return None


def _refused(sentence: str, status: int) -> Response:
    """In the form of `webui.ui.routes.answers`, which the page's script reads."""
    return JSONResponse({"message": sentence, "field": None}, status)


def _session_of(scope: Scope) -> tuple[str, bool]:
    """The session's id from its cookie, or a new one; and whether it is new."""
    try:
        cookie = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(SESSION_COOKIE)
    except CookieError:
        cookie = None
    if cookie is not None and _SESSION_ID.fullmatch(cookie.value):
        return cookie.value, False
    return secrets.token_urlsafe(32), True


def _with_session(scope: Scope, session: str) -> Scope:
    """The scope as the page gets it: our cookie alone, and no word of a proxy's.

    `LOCAL` in it says whether the asker is known to sit at this machine.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name != b"cookie" and not _FORWARDED.fullmatch(name)
    ]
    headers.append((b"cookie", f"{SESSION_COOKIE}={session}".encode()))
    return {**scope, "headers": headers, LOCAL: _is_local(scope)}


def _is_local(scope: Scope) -> bool:
    """Whether nobody but a person at this machine can be asking.

    A tunnel connects from this machine too, but goes by another name or says whom it forwards.
    """
    forwarded = any(_FORWARDED.fullmatch(name) for name, _ in scope["headers"])
    client = scope.get("client")
    host = Headers(scope=scope).get("host", "")
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    return not forwarded and client is not None and _loopback(client[0]) and _loopback(name)


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.casefold().removesuffix(".") == "localhost"


def _with_headers(send: Send, new_session: str | None) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS:
                headers[name] = value
            if new_session is not None:
                headers.append(
                    "set-cookie",
                    f"{SESSION_COOKIE}={new_session}; Path=/; HttpOnly; SameSite=Strict",
                )
        await send(message)

    return send_with_headers

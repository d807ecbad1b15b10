"""The page that asks visitors for the password."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from webui.ui.door import Door
from webui.ui.refusals import refused
from webui.ui.sessions import new_session
from webui.ui.texts import Catalogue

ENTER = "/enter"
"""Where the password is sent."""

MAX_FORM_BYTES = 4096

_ICON = "/icon.svg"

ASKING = frozenset({"/", ENTER, _ICON})
"""All that visitors get to see without the password."""

_ASSETS = Path(__file__).parent / "assets"
_WORDS = ("title", "ask", "label", "enter", "wrong")

# Otherwise the browser would not say that the form is of this page, which is asked for on writes.
_HEADERS = {"cache-control": "no-store", "referrer-policy": "same-origin"}


async def asked(request: Request, door: Door, session: str) -> tuple[Response, str | None]:
    """The answer to somebody who was not let in; and the session that now is, if any."""
    path, method = request.scope["path"], request.method
    if path == _ICON:
        icon = (_ASSETS / "icon.svg").read_bytes()
        return Response(icon, media_type="image/svg+xml"), None
    if path == ENTER and method == "POST":
        form = await _form(request)
        if form is None:
            return refused("This is no password.", 413), None
        new = new_session()
        if door.try_password(session, form, new):
            return RedirectResponse("./", 303, headers=_HEADERS), new
        return _page(request.scope, wrong=True), None
    if path in ("/", ENTER) and method in ("GET", "HEAD"):
        return _page(request.scope), None
    return refused("Visitors need the password: load the page anew.", 401), None


async def _form(request: Request) -> str | None:
    """The password in a form; `None` when it is larger than any."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            return None
    return parse_qs(body.decode("latin-1")).get("password", [""])[0]


def _page(scope: Scope, *, wrong: bool = False) -> Response:
    catalogue = Catalogue.load()
    language = _language(scope, frozenset(catalogue.languages()))
    say = catalogue.of(language)
    text = (_ASSETS / "door.html").read_text(encoding="utf-8").replace("{language}", language)
    for word in _WORDS:
        text = text.replace(f"{{{word}}}", html.escape(say(f"door.{word}")))
    text = text.replace("{hidden}", "" if wrong else "hidden")
    return HTMLResponse(text, 401, headers=_HEADERS)


def _language(scope: Scope, known: frozenset[str]) -> str:
    """The first of the browser's languages that there are words in."""
    header = Headers(scope=scope).get("accept-language", "")[:1000]
    wanted = (part.partition(";")[0].strip().partition("-")[0] for part in header.split(","))
    return next((code.casefold() for code in wanted if code.casefold() in known), "en")

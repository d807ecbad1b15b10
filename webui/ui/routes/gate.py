"""The gate's questions over HTTP: what a session may reach, and the ways to a grant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, Field

from webui.generator import Session
from webui.standing import (
    Answer,
    Declare,
    GiveUp,
    LoggedIn,
    LogIn,
    Look,
    Question,
    Redeem,
    SendLink,
)
from webui.ui.front import BACK
from webui.ui.routes.static import ASSETS
from webui.ui.visitor import at_this_machine, session_of

_FRESH = {"cache-control": "no-store"}
_TYPED = Field(max_length=200)


class Token(BaseModel):
    """What an owner's link ends with."""

    token: Annotated[str, _TYPED]


class Code(BaseModel):
    """An invitation."""

    code: Annotated[str, _TYPED]


class Returned(BaseModel):
    """What a login provider sent the browser back with."""

    code: Annotated[str, Field(max_length=4_000)]
    state: Annotated[str, _TYPED]


def add_gate_routes(app: FastAPI, ask: Callable[[Question, Session], Answer]) -> None:
    """Adds `/gate` and what lies below it.

    `GET /gate` answers with the session's standing, and so do `POST /gate/declare` {token},
    `POST /gate/redeem` {code}, `POST /gate/logged-in` {code, state} and `POST /gate/give-up`.
    `POST /gate/link` has the owner's link printed, `POST /gate/login` answers {address}.
    `GET /gate/back` is where a login comes back to: a page that leads to the root of ours, with
    `#gate=ok` or `#gate=refused`.

    Args:
        ask: Answers for the gate; raises `WebuiError`.
    """

    def answered(question: Question, request: Request) -> Response:
        answer = ask(question, session_of(request)).model_dump(mode="json")
        return JSONResponse(answer, headers=_FRESH)

    @app.get("/gate")
    def look(request: Request) -> Response:
        return answered(Look(), request)

    @app.post("/gate/link", dependencies=[Depends(at_this_machine)])
    def link(request: Request) -> dict[str, Any]:
        ask(SendLink(address=_address_of(request)), session_of(request))
        return {}

    @app.post("/gate/declare", dependencies=[Depends(at_this_machine)])
    def declare(body: Token, request: Request) -> Response:
        return answered(Declare(token=body.token), request)

    @app.post("/gate/redeem")
    def redeem(body: Code, request: Request) -> Response:
        return answered(Redeem(code=body.code), request)

    @app.post("/gate/login")
    def log_in(request: Request) -> Response:
        return answered(LogIn(back=_address_of(request).removesuffix("/") + BACK), request)

    @app.get(BACK)
    def back() -> Response:
        # The cookie is for requests of our own pages alone, so one of them has to ask.
        return FileResponse(ASSETS / "back.html", media_type="text/html", headers=_FRESH)

    @app.post("/gate/logged-in")
    def logged_in(body: Returned, request: Request) -> Response:
        return answered(LoggedIn(code=body.code, state=body.state), request)

    @app.post("/gate/give-up")
    def give_up(request: Request) -> Response:
        return answered(GiveUp(), request)


def _address_of(request: Request) -> str:
    """The address of the page's root as the browser knows it.

    The host is one that the front allows. A proxy may have taken https off; the browser's own
    Origin, which the front has compared with the host, still tells.
    """
    secure = request.headers.get("origin", "").startswith("https://")
    return str(request.base_url.replace(scheme="https") if secure else request.base_url)

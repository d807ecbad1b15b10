"""Strips of drafts: begun, watched and ended by the session that asked for them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel

from webui.errors import NotFoundError
from webui.levels import STRICT
from webui.request import parse_request
from webui.ui.routes.pictures import PRIVATE
from webui.ui.strips import Strips, shown
from webui.ui.variants import Kind
from webui.ui.visitor import session_of


class Wanted(BaseModel):
    """The body of `POST /strips`.

    Attributes:
        row: The one that is swept, from 0.
        level: The filter level asked for; what is none is strict.
    """

    request: dict[str, Any]
    kind: Kind
    row: int = 0
    level: Any = STRICT


def add_strips_routes(app: FastAPI, strips: Strips) -> None:
    """Adds `/strips` and what lies below it; the answers are those of `webui.ui.strips.shown`."""

    @app.post("/strips")
    def begin(wanted: Wanted, request: Request) -> dict[str, Any]:
        """Begins a strip and ends the session's one before."""
        asked = parse_request(wanted.request)
        return shown(
            strips.start(session_of(request, wanted.level), asked, wanted.kind, wanted.row)
        )

    @app.get("/strips/{name}")
    def watch(name: str, request: Request) -> dict[str, Any]:
        """How far it is."""
        return shown(strips.find(session_of(request), name))

    @app.delete("/strips/{name}")
    def end(name: str, request: Request) -> dict[str, Any]:
        """Makes no more pictures of it."""
        strips.end(session_of(request), name)
        return {}

    @app.get("/strips/{name}/{place}.png")
    def picture(name: str, place: int, request: Request) -> Response:
        """One of its pictures."""
        drafts = strips.find(session_of(request), name).drafts()
        path = drafts[place].path if 0 <= place < len(drafts) else None
        if path is None or not path.is_file():
            raise NotFoundError("This picture is not here any more.")
        return FileResponse(path, media_type="image/png", headers=PRIVATE)

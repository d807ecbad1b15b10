"""The session's own pictures: the list, the files, small copies, and what they were made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from webui.errors import NotFoundError
from webui.provenance.recover import Recovered
from webui.ui.pictures import Picture, Pictures
from webui.ui.view import shown
from webui.ui.visitor import session_of

PRIVATE = {"cache-control": "private, no-store"}


def add_pictures_routes(
    app: FastAPI,
    pictures: Pictures,
    *,
    thumbnail: Callable[[Path], bytes],
    recipe: Callable[[Path], Recovered],
) -> None:
    """Routes that only the session that made a picture can use for it.

    Args:
        thumbnail: A small copy of a picture's file, WebP.
        recipe: What a picture's file carries; raises `NotFoundError`.
    """

    def mine(request: Request, name: str) -> Picture:
        found = pictures.find(session_of(request).id, name)
        if found is None or not found.path.is_file():
            raise NotFoundError("This picture is not here any more.")
        return found

    @app.get("/pictures")
    def newest(request: Request) -> dict[str, Any]:
        """The session's pictures, the newest first."""
        return {"pictures": [shown(p) for p in pictures.newest_first(session_of(request).id)]}

    @app.get("/pictures/{name}.png")
    def picture(name: str, request: Request) -> Response:
        """The saved file itself, byte for byte."""
        found = mine(request, name)
        return FileResponse(
            found.path,
            media_type="image/png",
            filename=found.path.name,
            content_disposition_type="inline",
            headers=PRIVATE,
        )

    @app.get("/pictures/{name}/thumbnail.webp")
    def small(name: str, request: Request) -> Response:
        """A small copy for the strip."""
        data = thumbnail(mine(request, name).path)
        return Response(data, media_type="image/webp", headers=PRIVATE)

    @app.get("/pictures/{name}/recipe")
    def made_with(name: str, request: Request) -> dict[str, Any]:
        """The request in the file, and a sentence for each thing in it that is not taken."""
        found = recipe(mine(request, name).path)
        return {"request": found.request, "report": list(found.report)}

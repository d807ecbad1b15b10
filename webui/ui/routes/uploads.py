"""Pictures brought in: taken from the page or from what was saved, shown to who brought them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from webui.errors import BrokenFileError, NotFoundError
from webui.library.uploads import MAX_FILE_BYTES, Kind, Upload, Uploads
from webui.ui.brought import BroughtIn
from webui.ui.pictures import Pictures
from webui.ui.routes.bodies import read_up_to
from webui.ui.visitor import at_this_machine, session_of

_KEPT = {"cache-control": "private, max-age=3600, immutable"}


def add_uploads_routes(
    app: FastAPI,
    uploads: Uploads,
    brought: BroughtIn,
    pictures: Pictures,
    saved: Callable[[str], Path],
) -> None:
    """Adds `/uploads` and what lies below it.

    `POST /uploads` takes a picture's file as the body, `POST /uploads/picture/{id}` one of the
    session's own results, `POST /uploads/history/{id}` any saved one. All answer {id, width,
    height}; `GET /uploads/{id}.png` gives the picture as it is worked on.

    Args:
        saved: The file of a saved picture by its id; raises `NotFoundError`.
    """

    def take(data: bytes, kind: Kind, request: Request) -> dict[str, Any]:
        upload = uploads.take(data, kind=kind)
        brought.add(session_of(request), upload.id, hashlib.sha256(data).hexdigest())
        return _shown(upload)

    @app.post("/uploads")
    async def bring(request: Request, kind: Kind = "picture") -> dict[str, Any]:
        """Takes a picture, or with `?kind=mask` a mask (white or opaque = repaint)."""
        data = await read_up_to(request, MAX_FILE_BYTES)
        return await run_in_threadpool(take, data, kind, request)

    @app.post("/uploads/picture/{name}")
    def bring_own(name: str, request: Request) -> dict[str, Any]:
        """Takes one of the session's own results."""
        found = pictures.find(session_of(request).id, name)
        if found is None:
            raise NotFoundError("This picture is not here any more.")
        return take(_read(found.path), "picture", request)

    @app.post("/uploads/history/{name}", dependencies=[Depends(at_this_machine)])
    def bring_saved(name: str, request: Request) -> dict[str, Any]:
        """Takes any saved picture."""
        return take(_read(saved(name)), "picture", request)

    @app.get("/uploads/{name}.png")
    def picture(name: str, request: Request) -> Response:
        """The picture, upright and in plain RGB or grey."""
        brought.check(session_of(request), name)
        return Response(uploads.read(name), media_type="image/png", headers=_KEPT)


def _shown(upload: Upload) -> dict[str, Any]:
    return {"id": upload.id, "width": upload.width, "height": upload.height}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError("This picture is not here any more.") from None
    except OSError as error:
        raise BrokenFileError(f"{path.name} cannot be read: {error.strerror}.") from None

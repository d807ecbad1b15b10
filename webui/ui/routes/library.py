"""The shelves for the machine's owner: what is there, notes and pictures, what to begin with."""

from __future__ import annotations

from dataclasses import asdict
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from webui.library.kinds import KINDS
from webui.ui.first import FirstModels
from webui.ui.library import Library
from webui.ui.visitor import at_this_machine

_FRESH = MappingProxyType({"cache-control": "no-store"})
_KEPT = MappingProxyType({"cache-control": "private, max-age=86400"})


class Note(BaseModel):
    """The owner's words."""

    note: Annotated[str, Field(max_length=20_000)]


class Chosen(BaseModel):
    """A picture of the history, by its id."""

    picture: Annotated[str, Field(max_length=100)] | None


def add_library_routes(app: FastAPI, library: Library, first: FirstModels) -> None:
    """Adds `/library` and what lies below it.

    `GET /library` answers {cards, kinds}, `GET /library/first`
    {offered, reached}. Below `/library/card/ID`:
    `GET` it or its `picture.webp`, `PUT` a `note` {note} or a `picture` {picture}.
    """
    router = APIRouter(prefix="/library", dependencies=[Depends(at_this_machine)])

    @router.get("")
    def cards() -> JSONResponse:
        """Everything on the shelves."""
        # Given as it is: FastAPI would look through every value of a thousand rows once more.
        content = {"cards": library.all(), "kinds": KINDS}
        return JSONResponse(content, headers=dict(_FRESH))

    @router.get("/first")
    def offered(network: bool = False) -> dict[str, Any]:
        """Models to begin with; the network is looked for only when that is asked for."""
        found = first.offered()
        best = found[-1] if found else None
        reached = first.within_reach() if found and network else None
        rows = [asdict(one) | {"recommended": one is best} for one in found]
        return {"offered": rows, "reached": reached}

    @router.get("/card/{id}")
    def about(id: str) -> dict[str, Any]:
        return library.about(id)

    @router.get("/card/{id}/picture.webp")
    def picture(id: str) -> Response:
        return Response(library.picture(id), media_type="image/webp", headers=dict(_KEPT))

    @router.put("/card/{id}/note")
    def note(id: str, body: Note) -> dict[str, Any]:
        return {"note": library.note(id, body.note).note}

    @router.put("/card/{id}/picture")
    def choose(id: str, body: Chosen) -> dict[str, Any]:
        library.choose_picture(id, body.picture)
        return library.about(id)

    app.include_router(router)

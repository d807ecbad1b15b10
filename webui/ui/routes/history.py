"""All saved pictures, for the machine's owner: pages of them, thumbnails, files, recipes, trash."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, FailFast

from webui.library.history import History, Outcome
from webui.library.history_index import Picture
from webui.library.history_query import HistoryQuery
from webui.library.picture_files import MEDIA_TYPES, origin_of, shown
from webui.ui.visitor import at_this_machine

_NEVER_KEPT = MappingProxyType({"cache-control": "private, no-store"})
_KEPT = MappingProxyType({"cache-control": "private, max-age=31536000, immutable"})


class Selection(BaseModel):
    """Pictures that something is to be done with."""

    ids: Annotated[list[str], FailFast()]


def add_history_routes(
    app: FastAPI,
    history: History,
    presets_request: Callable[[str], Mapping[str, Any]],
    notices: Callable[[Path], Sequence[str]],
) -> None:
    """Adds `/history` and what lies below it.

    Args:
        presets_request: A preset's sparse request by the preset's name; raises `NotFoundError`.
        notices: A sentence for each thing in a picture's recipe that is not taken over.
    """
    router = APIRouter(prefix="/history", dependencies=[Depends(at_this_machine)])
    _add_pages(router, history, presets_request)
    _add_pictures(router, history, notices)
    _add_trash(router, history)
    app.include_router(router)


def _add_pages(
    router: APIRouter, history: History, presets_request: Callable[[str], Mapping[str, Any]]
) -> None:
    @router.get("")
    def page(
        search: str = "",
        model: str | None = None,
        preset: str | None = None,
        first_day: Annotated[date | None, Query(alias="from")] = None,
        last_day: Annotated[date | None, Query(alias="to")] = None,
        trash: bool = False,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> dict[str, Any]:
        """One page of what is looked for; the first one looks for new files, too."""
        if cursor is None:
            history.refresh()
        matches = None if preset is None else presets_request(preset)
        query = HistoryQuery(search, model, first_day, last_day, matches, trash)
        found = history.search(query, cursor=cursor, limit=limit)
        progress = history.progress
        return {
            "items": [_item(picture) for picture in found.pictures],
            "cursor": found.cursor,
            "total": found.total,
            "folder": shown(str(history.folder)),
            "indexing": progress and {"done": progress[0], "total": progress[1]},
            "notice": history.notice,
        }

    @router.get("/facets")
    def facets() -> dict[str, Any]:
        """What there is to filter by."""
        return {
            "models": [{"name": name, "count": count} for name, count in history.models()],
            "months": [{"month": month, "count": count} for month, count in history.months()],
        }


def _add_pictures(
    router: APIRouter, history: History, notices: Callable[[Path], Sequence[str]]
) -> None:
    @router.get("/{id}/thumbnail.webp")
    def thumbnail(id: str) -> Response:
        """A small copy; another picture's id never comes to mean this one, so it may be kept."""
        return Response(history.thumbnail(id), media_type="image/webp", headers=_KEPT)

    @router.get("/{id}/file")
    def file(id: str) -> Response:
        """The saved file itself, byte for byte."""
        path = history.file(id)
        return FileResponse(
            path,
            media_type=MEDIA_TYPES[path.suffix.lower()],
            filename=shown(path.name),
            content_disposition_type="inline",
            headers=_NEVER_KEPT,
        )

    @router.get("/{id}/recipe")
    def recipe(id: str) -> dict[str, Any]:
        """What the file says it was asked for, and a sentence for each thing that is not taken."""
        request = history.request(id)
        report = () if request is None else notices(history.file(id))
        return {"request": request, "report": list(report)}


def _add_trash(router: APIRouter, history: History) -> None:
    @router.post("/trash")
    def trash(selection: Selection) -> dict[str, Any]:
        """Moves pictures to the trash."""
        return _outcome(history.trash(selection.ids))

    @router.post("/restore")
    def restore(selection: Selection) -> dict[str, Any]:
        """Moves pictures from the trash to where they were."""
        return _outcome(history.restore(selection.ids))

    @router.post("/empty")
    def empty() -> dict[str, Any]:
        """Deletes what is in the trash for good."""
        return _outcome(history.empty_trash())


def _item(picture: Picture) -> dict[str, Any]:
    address = f"history/{picture.id}"
    return {
        "id": picture.id,
        "name": shown(picture.name),
        "folder": shown(origin_of(picture.folder)),
        "made": picture.made,
        "width": picture.width,
        "height": picture.height,
        "prompt": picture.prompt,
        "negative_prompt": picture.negative_prompt,
        "model": picture.model,
        "seed": picture.seed,
        "broken": picture.broken,
        "thumbnail": f"{address}/thumbnail.webp",
        "url": f"{address}/file",
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {"done": outcome.done, "problems": outcome.problems}

"""Downloads for the machine's owner: look at what there is, fetch it, pause it, give it up."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, Field

from webui.errors import NotFoundError
from webui.library.download_list import Download
from webui.library.downloads import Downloads
from webui.library.findings import Choices, Found
from webui.library.headers import is_safetensors
from webui.library.offers import Offers
from webui.library.sources import MAX_PASTED
from webui.ui.visitor import at_this_machine

MOST_KEPT = 32
"""Things that were looked at and can be fetched without another look."""


class Pasted(BaseModel):
    """What somebody pasted."""

    source: Annotated[str, Field(max_length=MAX_PASTED)]


class Wanted(BaseModel):
    """Something that was looked at."""

    found: Annotated[str, Field(max_length=64)]


def add_downloads_routes(app: FastAPI, offers: Offers, downloads: Downloads) -> None:
    """Adds `/downloads` and what lies below it.

    `POST /downloads/look` {source} answers {found} or {choices}; `POST /downloads` {found}
    fetches, `GET /downloads` lists, `POST /downloads/ID/pause` and `/resume` and
    `DELETE /downloads/ID` answer the list, too.
    """
    router = APIRouter(prefix="/downloads", dependencies=[Depends(at_this_machine)])
    looked = _Looked()

    def listing() -> dict[str, Any]:
        return {"downloads": [_row(one) for one in downloads.all()]}

    @router.post("/look")
    def look(body: Pasted) -> dict[str, Any]:
        """What lies there; nothing of it is kept."""
        found = offers.look(body.source)
        if isinstance(found, Choices):
            return {"found": None, "choices": asdict(found)}
        folder = downloads.place_of(found).parent.name
        about = _about(found) | {"id": looked.keep(found), "folder": folder}
        return {"found": about, "choices": None}

    @router.post("")
    def fetch(body: Wanted) -> dict[str, Any]:
        """Puts it in the queue."""
        downloads.add(looked.find(body.found))
        return listing()

    @router.get("")
    def every() -> dict[str, Any]:
        return listing()

    @router.post("/{id}/pause")
    def pause(id: str) -> dict[str, Any]:
        downloads.pause(id)
        return listing()

    @router.post("/{id}/resume")
    def resume(id: str) -> dict[str, Any]:
        downloads.resume(id)
        return listing()

    @router.delete("/{id}")
    def remove(id: str) -> dict[str, Any]:
        downloads.remove(id)
        return listing()

    app.include_router(router)


class _Looked:
    """What was looked at last, by ids: files and addresses are never a client's to name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Found] = OrderedDict()

    def keep(self, found: Found) -> str:
        id = secrets.token_hex(8)
        with self._lock:
            self._found[id] = found
            while len(self._found) > MOST_KEPT:
                self._found.popitem(last=False)
        return id

    def find(self, id: str) -> Found:
        with self._lock:
            found = self._found.get(id)
        if found is None:
            raise NotFoundError("This was looked at too long ago: look at it again.")
        return found


def _about(found: Found) -> dict[str, Any]:
    weights = [file for file in found.files if is_safetensors(file.path)]
    return {
        "title": found.title,
        "name": found.name,
        "kind": found.kind,
        "family": found.family,
        "size": found.size,
        "licence": found.licence,
        "terms": found.terms,
        "page": found.page,
        "base": found.base,
        "is_folder": found.is_folder,
        "host": urlsplit(found.files[0].address).hostname,
        "checked": bool(weights) and all(file.sha256 for file in weights),
    }


def _row(one: Download) -> dict[str, Any]:
    return _about(one.found) | {
        "id": one.id,
        "state": one.state,
        "said": one.said,
        "received": one.received,
        "rate": one.rate,
    }

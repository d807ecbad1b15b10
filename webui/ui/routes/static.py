"""The page's own script, styles and words: files of this package, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response

from webui.errors import NotFoundError
from webui.ui.pagefiles import KINDS, PageFiles
from webui.ui.texts import Catalogue

ASSETS = Path(__file__).parents[1] / "assets"

CHECKED = {"cache-control": "no-cache"}
"""Kept by the browser, but asked about each time: an update must not meet an old half."""

KEPT = {"cache-control": "max-age=31536000, immutable"}
"""Kept by the browser for good: what changes gets another address."""


def add_static_routes(app: FastAPI, catalogue: Catalogue, files: PageFiles) -> None:
    """Routes of what is the same for everybody."""

    def answer(name: str, headers: Mapping[str, str]) -> Response:
        if name not in files.contents:
            raise NotFoundError("There is nothing here.")
        kind = KINDS[Path(name).suffix]
        return Response(files.contents[name], media_type=kind, headers=dict(headers))

    @app.get("/page/{name}")
    async def module(name: str) -> Response:
        """A module of the script, or a style sheet."""
        return answer(name, CHECKED)

    @app.get("/page/{version}/{name}")
    async def module_of(version: str, name: str) -> Response:
        """The same for a page of this version, which asks for each only once."""
        if version != files.version:
            raise NotFoundError("There is nothing here.")
        return answer(name, KEPT)

    @app.get("/texts/{language}.json")
    def texts(language: str) -> Response:
        """All words of a language; English for one there is no file for."""
        return JSONResponse(dict(catalogue.of(language).words), headers=CHECKED)

    @app.get("/icon.svg")
    @app.get("/favicon.ico")
    def icon() -> Response:
        return FileResponse(ASSETS / "icon.svg", media_type="image/svg+xml")

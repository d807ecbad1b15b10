"""The page's own script, styles and words: files of this package, and no other."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response

from webui.errors import NotFoundError
from webui.ui.texts import Catalogue

ASSETS = Path(__file__).parents[1] / "assets"

_KINDS = {".js": "text/javascript", ".css": "text/css"}

CHECKED = {"cache-control": "no-cache"}
"""Kept by the browser, but asked about each time: an update must not meet an old half."""


def add_static_routes(app: FastAPI, catalogue: Catalogue) -> None:
    """Routes of what is the same for everybody."""
    files = {file.name: file for file in (ASSETS / "page").iterdir() if file.suffix in _KINDS}

    @app.get("/page/{name}")
    def module(name: str) -> Response:
        """A module of the script, or a style sheet."""
        if name not in files:
            raise NotFoundError("There is nothing here.")
        kind = _KINDS[files[name].suffix]
        return FileResponse(files[name], media_type=kind, headers=CHECKED)

    @app.get("/texts/{language}.json")
    def texts(language: str) -> Response:
        """All words of a language; English for one there is no file for."""
        return JSONResponse(dict(catalogue.of(language).words), headers=CHECKED)

    @app.get("/icon.svg")
    @app.get("/favicon.ico")
    def icon() -> Response:
        return FileResponse(ASSETS / "icon.svg", media_type="image/svg+xml")

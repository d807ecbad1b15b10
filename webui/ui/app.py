"""The real application: our own routes, and Gradio's page mounted beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from webui.ui.front import SESSION_COOKIE
from webui.ui.page import build_page
from webui.ui.pictures import Pictures
from webui.ui.server import Backend
from webui.ui.theme import make_theme

_ASSETS = Path(__file__).parent / "assets"
_HEAD = '<link rel="icon" href="icon.svg" type="image/svg+xml">'


def build_app(backend: Backend) -> FastAPI:
    """The page over `backend`, ready to be run behind `webui.ui.front.Front`."""
    pictures = Pictures()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_routes(app, pictures)
    # Part of the function's own signature is untyped.
    mount: Any = cast(Any, gr).mount_gradio_app
    mount(
        app,
        build_page(backend, pictures),
        path="/",
        theme=make_theme(),
        css_paths=[_ASSETS / "page.css"],
        head=_HEAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        allowed_paths=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    return app


def _add_routes(app: FastAPI, pictures: Pictures) -> None:
    @app.get("/pictures/{name}.png")
    async def picture(name: str, request: Request) -> Response:
        """The saved file itself, byte for byte, to the session that made it."""
        found = pictures.find(request.cookies[SESSION_COOKIE], name)
        if found is None or not found.path.is_file():
            return PlainTextResponse("This picture is not here any more.", 404)
        return FileResponse(
            found.path,
            media_type="image/png",
            filename=found.path.name,
            content_disposition_type="inline",
            headers={"cache-control": "private, no-store"},
        )

    @app.get("/icon.svg")
    @app.get("/favicon.ico")
    async def icon() -> Response:
        return FileResponse(_ASSETS / "icon.svg", media_type="image/svg+xml")

"""The real application: our own routes, and Gradio's page mounted beside them."""

from __future__ import annotations

from typing import Any, cast

import gradio as gr
from fastapi import FastAPI

from webui.ui.page import build_page
from webui.ui.pictures import Pictures
from webui.ui.routes.answers import answer_errors
from webui.ui.routes.pictures import add_pictures_routes
from webui.ui.routes.static import add_static_routes
from webui.ui.server import Backend
from webui.ui.texts import Catalogue
from webui.ui.theme import make_theme

_STYLES = ("base", "create")
_HEAD = '<link rel="icon" href="icon.svg" type="image/svg+xml">' + "".join(
    f'<link rel="stylesheet" href="page/{name}.css">' for name in _STYLES
)


def build_app(backend: Backend) -> FastAPI:
    """The page over `backend`, ready to be run behind `webui.ui.front.Front`."""
    catalogue = Catalogue.load()
    pictures = Pictures(lambda _: None)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    add_static_routes(app, catalogue)
    add_pictures_routes(app, pictures, thumbnail=lambda path: path, recipe=lambda _: {})
    # Part of the function's own signature is untyped.
    mount: Any = cast(Any, gr).mount_gradio_app
    mount(
        app,
        build_page(backend, pictures, catalogue),
        path="/",
        theme=make_theme(),
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

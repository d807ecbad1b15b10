"""The real application: our own routes, and Gradio's page mounted beside them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI

from webui.errors import WebuiError
from webui.generation.facts import find_sampling, trained_size
from webui.library.history import History
from webui.provenance.recover import Recovered, recover
from webui.request import GenerationRequest
from webui.ui.brought import BroughtIn
from webui.ui.front import OWN_PATHS
from webui.ui.page import build_page
from webui.ui.pagefiles import PageFiles
from webui.ui.pictures import Pictures
from webui.ui.routes.answers import answer_errors, answer_the_rest
from webui.ui.routes.controlnets import add_controlnets_routes
from webui.ui.routes.downloads import add_downloads_routes
from webui.ui.routes.embeddings import add_embeddings_routes
from webui.ui.routes.gate import add_gate_routes
from webui.ui.routes.history import add_history_routes
from webui.ui.routes.library import add_library_routes
from webui.ui.routes.looking import add_looking_routes
from webui.ui.routes.loras import add_loras_routes
from webui.ui.routes.pictures import add_pictures_routes
from webui.ui.routes.poses import add_poses_routes
from webui.ui.routes.presets import add_presets_routes
from webui.ui.routes.reading import add_reading_routes
from webui.ui.routes.share import add_share_routes
from webui.ui.routes.static import add_static_routes
from webui.ui.routes.strips import add_strips_routes
from webui.ui.routes.uploads import add_uploads_routes
from webui.ui.routes.verifying import add_verify_routes
from webui.ui.routes.words import add_words_routes
from webui.ui.server import Backend
from webui.ui.strips import Strips
from webui.ui.texts import Catalogue
from webui.ui.theme import make_theme
from webui.ui.variants import draft_of

_STYLES = (
    "base",
    "create",
    "filter",
    "panel",
    "start",
    "pose",
    "controls",
    "loras",
    "strips",
    "presets",
    "differences",
    "brief",
    "drop",
    "history",
    "check",
    "library",
    "downloads",
)


def build_app(backend: Backend) -> FastAPI:
    """The page over `backend`, ready to be run behind `webui.ui.front.Front`."""
    catalogue, files = Catalogue.load(), PageFiles.load()
    history, presets, shelves = backend.history, backend.presets, backend.shelves
    pictures = Pictures(lambda picture: _remember(history, picture))
    brought = BroughtIn()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    add_static_routes(app, catalogue, files)
    add_pictures_routes(app, pictures, thumbnail=history.thumbnail_of, recipe=_recipe)
    add_history_routes(app, history, lambda preset: presets.find(preset).request, _notices)
    add_presets_routes(app, presets)
    add_words_routes(app, backend.words)
    add_poses_routes(app)
    add_uploads_routes(app, shelves.uploads, brought, pictures, history.file)
    add_looking_routes(
        app,
        shelves.models,
        shelves.wildcards,
        shelves.loras,
        shelves.embeddings,
    )
    add_controlnets_routes(app, shelves.models, shelves.controlnets, backend.annotators)
    add_loras_routes(app, shelves.loras)
    add_embeddings_routes(app, shelves.embeddings)
    add_library_routes(app, backend.library, backend.first)
    add_downloads_routes(app, backend.offers, backend.downloads)
    add_strips_routes(app, Strips(backend.jobs, brought, partial(_draft, backend)))
    add_reading_routes(app, shelves.models.known_hashes, shelves.embeddings.known_hashes)
    add_share_routes(app, backend.share)
    add_gate_routes(app, backend.ask)
    add_verify_routes(app, backend.trust)
    answer_the_rest(app, OWN_PATHS)
    # Part of the function's own signature is untyped.
    mount: Any = cast(Any, gr).mount_gradio_app
    mount(
        app,
        build_page(backend, pictures, brought, catalogue, files),
        path="/",
        theme=make_theme(),
        head=_head(files),
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


def _head(files: PageFiles) -> str:
    icon = '<link rel="icon" href="icon.svg" type="image/svg+xml">'
    styles = (files.address(f"{name}.css") for name in _STYLES)
    return icon + "".join(f'<link rel="stylesheet" href="{style}">' for style in styles)


def _remember(history: History, picture: Path) -> None:
    # A picture is saved and shown whatever becomes of the index, which finds it later.
    with suppress(WebuiError):
        history.add(picture)


def _draft(backend: Backend, request: GenerationRequest) -> GenerationRequest:
    model = backend.shelves.models.folder(request.model)
    sampling = find_sampling(request, model, backend.shelves.loras)
    return draft_of(request, trained_size(model), sampling)


def _notices(picture: Path) -> tuple[str, ...]:
    return _recipe(picture).report


def _recipe(picture: Path) -> Recovered:
    with picture.open("rb") as file:
        return recover(file)

"""Refusals of the front, in the form of `webui.ui.routes.answers`, which the script reads."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


def refused(sentence: str, status: int) -> Response:
    """One sentence with a status."""
    content = {"message": sentence, "field": None}
    return JSONResponse(content, status, headers={"cache-control": "no-store"})

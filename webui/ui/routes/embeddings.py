"""The textual-inversion embeddings on the shelf as the page shows them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from webui.library.embeddings import FOLDER, EmbeddingCard, EmbeddingShelf

_FRESH = {"cache-control": "no-store"}


def add_embeddings_routes(app: FastAPI, shelf: EmbeddingShelf) -> None:
    """Adds `GET /embeddings`, from headers alone."""

    @app.get("/embeddings")
    def embeddings() -> JSONResponse:
        """Every embedding by name, those that cannot be used too."""
        rows = [_row(card) for card in shelf.cards()]
        return JSONResponse({"embeddings": rows}, headers=_FRESH)


def _row(card: EmbeddingCard) -> dict[str, Any]:
    facts = card.facts
    return {
        "name": card.name,
        "file": f"{FOLDER}/{card.file}",
        "family": facts.family,
        "vectors": facts.vectors,
        "word": facts.word,
        "problem": facts.problem,
    }

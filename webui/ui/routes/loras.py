"""The LoRAs on the shelf as the page shows them, and the digests of one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse

from webui.library.loras import LoraCard, LoraShelf

_FRESH = {"cache-control": "no-store"}


def add_loras_routes(app: FastAPI, shelf: LoraShelf) -> None:
    """Adds `GET /loras`, from headers alone, and `GET /loras/hashes`, which reads a whole file."""

    @app.get("/loras")
    def loras() -> JSONResponse:
        """Every LoRA by name, and the folder in which they are looked for first."""
        rows = [_row(card) for card in shelf.cards()]
        # Given as it is: FastAPI would look through every value of a thousand rows once more.
        return JSONResponse({"folder": shelf.folder.name, "loras": rows}, headers=_FRESH)

    @app.get("/loras/hashes")
    def hashes(name: Annotated[str, Query(max_length=200)]) -> dict[str, str]:
        """The digests of the LoRA of that name, as a request may call it."""
        found = shelf.hashes(shelf.find(name))
        return {"sha256": found.sha256, "auto_v2": found.auto_v2, "auto_v3": found.auto_v3}


def _row(card: LoraCard) -> dict[str, Any]:
    facts = card.facts
    return {
        "name": card.name,
        "path": card.stem,
        "file": card.file,
        "size": card.size,
        "alias": facts.alias,
        "family": facts.family,
        "kind": facts.kind,
        "rank": facts.rank,
        "alpha": facts.alpha,
        "parts": facts.parts,
        "trained_on": facts.trained_on,
        "triggers": facts.triggers,
        "strength": None if facts.distilled is None else facts.distilled.strength,
        "problem": facts.problem,
    }

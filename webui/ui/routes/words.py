"""Word lists for the page: what a prompt can be composed of, and the user's edits of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel, FailFast

from webui.library.wordlists import WordLists
from webui.ui.visitor import at_this_machine


class Phrases(BaseModel):
    """A list as it is to be saved."""

    phrases: Annotated[list[str], FailFast()]


def add_words_routes(app: FastAPI, lists: WordLists) -> None:
    """Adds the routes below `/words`."""

    @app.get("/words")
    def all_lists() -> dict[str, Any]:
        return {"lists": [asdict(one) for one in lists.lists()]}

    @app.put("/words/{name}", dependencies=[Depends(at_this_machine)])
    def save(name: str, body: Phrases) -> dict[str, Any]:
        return asdict(lists.store(name, body.phrases))

    @app.delete("/words/{name}", dependencies=[Depends(at_this_machine)])
    def reset(name: str) -> dict[str, Any]:
        return asdict(lists.reset(name))

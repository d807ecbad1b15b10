"""Reads recipes out of what is dropped or pasted on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from webui.interchange.links import read_link
from webui.interchange.sparse import shortened
from webui.provenance.recover import Recovered, recover, recover_text

Models = Callable[[], Sequence[tuple[str, str]]]
"""Name and SHA-256 (hex) of each model on the shelf."""

Embeddings = Callable[[], Sequence[tuple[str, str]]]
"""The same of each embedding, asked for only where a recipe names some."""

_MAX_IN_MEMORY_BYTES = 1024**2
"""Larger files go to disk while they are read."""

_WEIGHT_FILE = re.compile(r"\.(safetensors|ckpt|gguf|pth?|sft)$", re.IGNORECASE)


class PastedText(BaseModel):
    """An infotext as it was pasted."""

    text: str


class LinkedRecipe(BaseModel):
    """What a link to a recipe holds."""

    request: dict[str, Any]


def add_reading_routes(app: FastAPI, models: Models, embeddings: Embeddings = tuple) -> None:
    """Adds `POST /read` (a picture's file as the body), `POST /read/text` and `POST /read/link`.

    All answer {source, request, report, width, height}: a sparse request for this machine's shelf,
    with a sentence for each thing that was changed, dropped or not understood.
    """

    @app.post("/read")
    async def read_picture(request: Request) -> dict[str, Any]:
        with SpooledTemporaryFile(_MAX_IN_MEMORY_BYTES) as file:
            async for piece in request.stream():
                file.write(piece)
            recovered = await run_in_threadpool(recover, cast(BinaryIO, file))
        return await run_in_threadpool(_answer, recovered, models, embeddings)

    @app.post("/read/text")
    def read_pasted(pasted: PastedText) -> dict[str, Any]:
        return _answer(recover_text(pasted.text), models, embeddings)

    @app.post("/read/link")
    def read_linked(linked: LinkedRecipe) -> dict[str, Any]:
        read = read_link(linked.request)
        recovered = Recovered("easel", read.request, read.report, None, None, None)
        return _answer(recovered, models, embeddings)


def _answer(recovered: Recovered, models: Models, embeddings: Embeddings) -> dict[str, Any]:
    request, report = _on_this_shelf(recovered, models())
    if recovered.embeddings:
        report += tuple(_other_embeddings(recovered.embeddings, embeddings()))
    return {
        "source": recovered.source,
        "request": request,
        "report": [*recovered.report, *report],
        "width": recovered.width,
        "height": recovered.height,
    }


def _on_this_shelf(
    recovered: Recovered, shelf: Sequence[tuple[str, str]]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request with the shelf's name of its model, or without a model; and what was done."""
    request = dict(recovered.request)
    name: str | None = request.pop("model", None)
    digits = recovered.model_hash
    called = f"with the hash {digits}" if name is None else repr(shortened(name))
    if name is None and digits is None:
        return request, ()
    found = _named(name, shelf) if name is not None else None
    if found is None and digits is not None:
        found = next((known for known, sha256 in shelf if sha256.startswith(digits)), None)
    if found is None:
        return request, (f"The model {called} is not here: none was taken over.",)
    request["model"] = found
    if found != name:
        return request, (f"The model {called} is {found!r} here.",)
    # Only our own recipes hash a model as the shelf does.
    if recovered.source == "easel" and digits is not None and (found, digits) not in shelf:
        return request, (f"The model {called} here is not the one it was made with.",)
    return request, ()


def _other_embeddings(
    made_with: Sequence[tuple[str, str]], shelf: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Sentences about embeddings that are not here as the picture was made with them.

    A prompt goes by names alone; names in a recipe of another tool lack some signs.
    """
    for name, digits in made_with:
        here = [sha256 for known, sha256 in shelf if known.casefold() == name.casefold()]
        if any(sha256.startswith(digits) for sha256 in here):
            continue
        same = next((known for known, sha256 in shelf if sha256.startswith(digits)), None)
        called = repr(shortened(name))
        if same is not None:
            yield f"The embedding {called} is called {same!r} here: write that in its place."
        elif here:
            yield f"The embedding {called} here is not the one it was made with."
        else:
            yield f"The embedding {called} is not here: its name is read as plain text."


def _named(name: str, shelf: Sequence[tuple[str, str]]) -> str | None:
    """The model that goes by this name: exactly, then in any case, then as a file's stem."""
    for spelling in (str, str.casefold, _stem):
        for known, _ in shelf:
            if spelling(known) == spelling(name):
                return known
    return None


def _stem(name: str) -> str:
    return _WEIGHT_FILE.sub("", re.split(r"[\\/]", name)[-1]).casefold()

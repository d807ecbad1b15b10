"""Neutral pictures with recipes, and a reader for them that counts what it reads."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from webui.errors import BrokenFileError
from webui.library.history_sync import Indexed
from webui.provenance.pngtext import insert_text, read_text

NOON = datetime(2026, 5, 4, 12, 0)


def write_picture(
    path: Path,
    request: dict[str, Any] | None = None,
    *,
    size: tuple[int, int] = (64, 48),
    made: datetime | None = None,
    embeddings: tuple[str, ...] = (),
) -> Path:
    """A grey PNG file, with a recipe if there is a request."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (120, 120, 120)).save(path, "PNG")
    if request is not None:
        path.write_bytes(
            insert_text(path.read_bytes(), {"recipe": json.dumps([request, embeddings])})
        )
    if made is not None:
        os.utime(path, (made.timestamp(), made.timestamp()))
    return path


class Reader:
    """Reads what `write_picture` wrote; `names` says of which files."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, path: Path) -> Indexed:
        self.names.append(path.name)
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG"):
            raise BrokenFileError(f"{path.name} is not a picture.")
        recipe = read_text(data).get("recipe")
        request, embeddings = (None, ()) if recipe is None else json.loads(recipe)
        with Image.open(path) as picture:
            return Indexed(*picture.size, request, tuple(embeddings))

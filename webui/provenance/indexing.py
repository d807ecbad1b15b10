"""What the history keeps of a picture, read from its file: size and recipe, never the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from webui.errors import NotFoundError
from webui.library.history_sync import Indexed
from webui.provenance.heads import jpeg_head, webp_head
from webui.provenance.pngtext import read_size
from webui.provenance.recover import recover


def read_for_history(path: Path) -> Indexed:
    """A picture's size and the recipe it carries, if any.

    Raises:
        BrokenFileError: It is no PNG, JPEG or WebP file, or what it carries cannot be read.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        try:
            found = recover(file)
        except NotFoundError:
            return Indexed(*_size(file), None)
    embeddings = tuple(name for name, _ in found.embeddings)
    return Indexed(found.width or 0, found.height or 0, found.request, embeddings)


def _size(file: BinaryIO) -> tuple[int, int]:
    """Width and height in pixels of a file that `recover` knows the kind of."""
    file.seek(0)
    start = file.read(2)
    if start == b"\x89P":
        return read_size(file)
    head = jpeg_head(file) if start == b"\xff\xd8" else webp_head(file)
    return head.width, head.height

"""What the history's index keeps of a saved picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from webui.errors import NotFoundError
from webui.library.history_sync import Indexed
from webui.provenance.recover import recover


def read_saved(path: Path) -> Indexed:
    """Size and recipe of a picture's file; no pixel is decoded.

    Raises:
        BrokenFileError: It is no picture of the kinds that are read.
        OSError: It cannot be opened, or its header is damaged.
    """
    with path.open("rb") as file:
        try:
            found = recover(file)
        except NotFoundError:
            with Image.open(file) as picture:
                return Indexed(picture.width, picture.height, None)
    return Indexed(found.width or 0, found.height or 0, found.request)

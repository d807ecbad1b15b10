"""The folder of finished pictures: the only place where a picture is written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from webui.clearance import Signed
from webui.library.files import write_atomically


class Gallery:
    """Saves signed pictures as `<folder>/<date>/<time>-<seed>-<hash>.png`.

    With `by_date=False` they lie in the folder itself.
    """

    def __init__(self, folder: Path, *, by_date: bool = True) -> None:
        self._folder = folder
        self._by_date = by_date

    def save(self, signed: Signed, *, seed: int, now: datetime) -> Path:
        """Writes the picture whole or not at all; gives its absolute path.

        Raises:
            StorageError: Disk full or folder not writable; nothing is left behind.
        """
        name = f"{now:%H%M%S}-{seed}-{signed.sha256[:8]}.png"
        folder = self._folder / f"{now:%Y-%m-%d}" if self._by_date else self._folder
        path = (folder / name).resolve()
        write_atomically(path, signed.data)
        return path

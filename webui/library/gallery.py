"""The folders of finished pictures: the only place where a picture is written."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from pathlib import Path

from webui.clearance import Signed
from webui.library.files import write_atomically

_DAY = 24 * 3600.0


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


class Drafts(Gallery):
    """Pictures for a comparison: saved as all are, in a folder of their own and only for a while.

    Args:
        most: Pictures kept; the oldest go first.
        max_age: Seconds after which a picture goes.
    """

    def __init__(self, folder: Path, *, most: int = 400, max_age: float = _DAY) -> None:
        super().__init__(folder, by_date=False)
        self._most = most
        self._max_age = max_age

    def save(self, signed: Signed, *, seed: int, now: datetime) -> Path:
        """As `Gallery.save`; then removes those that are too many or too old."""
        path = super().save(signed, seed=seed, now=now)
        self.tidy()
        return path

    def tidy(self) -> None:
        """Removes the pictures that are too many or too old."""
        aged: list[tuple[float, Path]] = []
        for file in self._folder.glob("*.png"):
            with contextlib.suppress(OSError):
                aged.append((file.stat().st_mtime, file))
        aged.sort(reverse=True)
        oldest = time.time() - self._max_age
        for number, (made, file) in enumerate(aged):
            if number >= self._most or made < oldest:
                with contextlib.suppress(OSError):
                    file.unlink()

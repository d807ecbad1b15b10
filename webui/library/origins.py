"""What was found about where pictures brought in come from, kept beside them.

A picture is made plain when it is brought in, and nothing in it says any more where it comes from.
So its file is judged once, as it came, and the verdict is sealed to the content hash of the plain
picture. Nobody but the server writes into the folder, and without the installation's key no verdict
can be made up; where there is none, the picture is from outside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from webui.errors import StorageError
from webui.library.files import PRIVATE, write_atomically
from webui.library.keys import kept_key
from webui.library.sealed import as_text, sealed, unsealed

_KIND = "origin"


@dataclass(frozen=True)
class Origin:
    """Where a picture comes from.

    Attributes:
        tainted: Whether it, or anything it was made of, may be from outside.
        has_credentials: Whether signed statements are in its file, to be handed on.
    """

    tainted: bool = True
    has_credentials: bool = False


OUTSIDE = Origin()

Judge = Callable[[bytes], Origin]
"""Looks at a picture's file as it was brought in."""


class Origins:
    """The verdicts, and the files with credentials, in the folder of the pictures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, name: str, origin: Origin, file: bytes) -> None:
        """Keeps what was found.

        The same plain picture may come in several files: then the one that is not tainted counts,
        since it is these pixels that were made here, and else the last one with credentials.

        Args:
            name: Content hash of the plain picture.
            file: The one that was brought in.

        Raises:
            StorageError: It cannot be kept.
        """
        if origin == OUTSIDE or not self.of(name).tainted:
            return
        body = {"id": name, "tainted": origin.tainted, "original": ""}
        if origin.has_credentials:
            write_atomically(self._file(name), file, mode=PRIVATE)
            body["original"] = hashlib.sha256(file).hexdigest()
        record = as_text(sealed(self._key(), _KIND, body))
        write_atomically(self._record(name), record, mode=PRIVATE)

    def of(self, name: str) -> Origin:
        """The verdict on the plain picture of that content hash."""
        tainted, original = self._known(name)
        return Origin(tainted, bool(original))

    def original(self, name: str) -> bytes | None:
        """The file that the plain picture was taken from, where it has credentials."""
        _, original = self._known(name)
        try:
            file = self._file(name).read_bytes() if original else b""
        except OSError:
            return None
        return file if original and hashlib.sha256(file).hexdigest() == original else None

    def _known(self, name: str) -> tuple[bool, str]:
        """Whether it is tainted, and the SHA-256 of the file that was kept, if one was."""
        try:
            text = self._record(name).read_bytes()
            record = unsealed(self._key(), _KIND, text)
        except (OSError, StorageError):
            # Without a verdict or the key to it, nothing speaks for the picture.
            return True, ""
        if record is None or record["id"] != name:
            return True, ""
        for path in (self._record(name), self._file(name)):
            with contextlib.suppress(OSError):
                os.utime(path)
        return record["tainted"], record["original"]

    def _key(self) -> bytes:
        return kept_key(self._folder.with_name(f"{self._folder.name}.key"))

    def _record(self, name: str) -> Path:
        return self._folder / f"{name}.origin"

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.original"

"""SHA-256 of large files, computed once per (path, size, times of change)."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any, cast

from webui.library.files import write_atomically


class HashBook:
    """Remembers file hashes in one JSON file; a lost or damaged book is begun anew.

    Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._read()
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder the book lies in, for other things that can be made anew."""
        return self._path.parent

    def sha256(self, path: Path, *, start: int = 0) -> str:
        """Hex digest of the file's bytes from `start` on."""
        known = self.known(path, start=start)
        if known is not None:
            return known
        with path.open("rb") as file:
            stamp = _stamp(path)
            file.seek(start)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with self._lock:
            self._known |= self._read()
            self._known[_key(path, start)] = f"{stamp} {digest}"
            write_atomically(self._path, json.dumps(self._known, indent=0).encode())
        return digest

    def known(self, path: Path, *, start: int = 0) -> str | None:
        """The digest if it has been computed before and the file is still the same.

        Another process with the same book may have computed it.
        """
        known = self._find(path, start)
        if known is None:
            with self._lock:
                self._known |= self._read()
            known = self._find(path, start)
        return known

    def _find(self, path: Path, start: int) -> str | None:
        stamp, _, digest = self._known.get(_key(path, start), "").partition(" ")
        return digest if stamp == _stamp(path) else None

    def _read(self) -> dict[str, str]:
        try:
            known: Any = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        entries = cast(dict[Any, Any], known)
        return {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, str)}


def _key(path: Path, start: int) -> str:
    return f"{path.resolve()}@{start}" if start else str(path.resolve())


def _stamp(path: Path) -> str:
    stat = path.stat()
    # Anybody can set the time of modification, and nobody that of the last change.
    return f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"

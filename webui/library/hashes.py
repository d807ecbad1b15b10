"""SHA-256 of large files, computed once per (path, size, modification time)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

from webui.library.files import write_atomically


class HashBook:
    """Remembers file hashes in one JSON file; a lost or damaged book is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._read()

    def sha256(self, path: Path) -> str:
        """Hex digest of the file's bytes."""
        known = self.known(path)
        if known is not None:
            return known
        with path.open("rb") as file:
            stamp = _stamp(path)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[str(path.resolve())] = f"{stamp} {digest}"
        write_atomically(self._path, json.dumps(self._known, indent=0).encode())
        return digest

    def known(self, path: Path) -> str | None:
        """The digest if it has been computed before and the file is still the same.

        Another process with the same book may have computed it.
        """
        known = self._find(path)
        if known is None:
            self._known |= self._read()
            known = self._find(path)
        return known

    def _find(self, path: Path) -> str | None:
        stamp, _, digest = self._known.get(str(path.resolve()), "").partition(" ")
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


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"

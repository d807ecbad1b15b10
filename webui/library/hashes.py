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
        stat = path.stat()
        stamp = f"{stat.st_size}:{stat.st_mtime_ns}"
        key = str(path.resolve())
        known_stamp, _, digest = self._known.get(key, "").partition(" ")
        if known_stamp == stamp:
            return digest
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[key] = f"{stamp} {digest}"
        write_atomically(self._path, json.dumps(self._known, indent=0).encode())
        return digest

    def _read(self) -> dict[str, str]:
        try:
            known: Any = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        entries = cast(dict[Any, Any], known)
        return {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, str)}

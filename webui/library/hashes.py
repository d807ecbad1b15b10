"""SHA-256 of large files, computed once per (path, size, times of change)."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from webui.library.facts_cache import stamp_of
from webui.library.files import write_atomically

_READ_AT_ONCE = 1024 * 1024


class HashBook:
    """Remembers file hashes in one JSON file; a lost or damaged book is begun anew.

    Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        self._seen = ""
        self._lock = threading.Lock()
        self._renew()

    @property
    def folder(self) -> Path:
        """The folder the book lies in, for other things that can be made anew."""
        return self._path.parent

    def sha256(self, path: Path, *, start: int = 0) -> str:
        """Hex digest of the file's bytes from `start` on."""
        return self.digests(path, (start,))[0]

    def digests(
        self, path: Path, starts: tuple[int, ...], step: Callable[[int], None] = lambda _: None
    ) -> list[str]:
        """Hex digests of the file's bytes from each of `starts` on, the file being read once.

        Only those are computed that are not known.

        Args:
            step: Called with the bytes read so far; what it raises ends the reading.

        Raises:
            OSError: The file cannot be read.
        """
        known = {start: self.known(path, start=start) for start in starts}
        wanted = tuple(start for start, digest in known.items() if digest is None)
        if not wanted:
            return cast(list[str], [known[start] for start in starts])
        with path.open("rb") as file:
            # Of the file that is read, whatever its name stands for by then.
            stamp = stamp_of(os.fstat(file.fileno()))
            known |= zip(wanted, _read(file, wanted, step), strict=True)
        with self._lock:
            self._renew()
            for start in wanted:
                self._known[_key(path, start)] = f"{stamp} {known[start]}"
            write_atomically(self._path, json.dumps(self._known, indent=0).encode())
            self._renew()
        return cast(list[str], [known[start] for start in starts])

    def known(self, path: Path, *, start: int = 0) -> str | None:
        """The digest if it has been computed before and the file is still the same.

        Another process with the same book may have computed it.
        """
        key = _key(path, start)
        known = self._find(key, path)
        if known is None:
            with self._lock:
                has_more = self._renew()
            known = self._find(key, path) if has_more else None
        return known

    def _find(self, key: str, path: Path) -> str | None:
        stamp, _, digest = self._known.get(key, "").partition(" ")
        return digest if stamp and stamp == _stamp(path) else None

    def _renew(self) -> bool:
        """Takes in what another process has written since the book was last looked at.

        Returns:
            Whether it has been written since.
        """
        try:
            stamp = _stamp(self._path)
        except OSError:
            return False
        if stamp == self._seen:
            return False
        self._known |= self._read()
        self._seen = stamp
        return True

    def _read(self) -> dict[str, str]:
        try:
            known: Any = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        entries = cast(dict[Any, Any], known)
        return {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, str)}


def _read(file: BufferedReader, starts: tuple[int, ...], step: Callable[[int], None]) -> list[str]:
    hashers = [hashlib.sha256() for _ in starts]
    buffer = memoryview(bytearray(_READ_AT_ONCE))
    position = 0
    while count := file.readinto(buffer):
        for start, hasher in zip(starts, hashers, strict=True):
            hasher.update(buffer[min(max(start - position, 0), count) : count])
        position += count
        step(position)
    return [hasher.hexdigest() for hasher in hashers]


def _key(path: Path, start: int) -> str:
    return f"{path.resolve()}@{start}" if start else str(path.resolve())


def _stamp(path: Path) -> str:
    return stamp_of(path.stat())
